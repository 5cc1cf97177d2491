"""What the forward-backward representation is trained on: pure functions of arrays, each (loss, metrics).

Symbols: N transitions, d numbers in a representation; F(s, a, z) and B(s) as in equation (7).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from genreward_jax.errors import UserError

Metrics = dict[str, jax.Array]


class Representations(NamedTuple):
    """The networks' outputs for a batch of transitions (s, a, s'), all float32.

    Attributes:
        forward: F(s, a, z) of each head, (N, d) each.
        target_forward: Target F(s', a', z) of each head, (N, d) each.
        backward_goal: B(psi(I*)), (d,); only `paper` reads it.
        target_backward_goal: Target B(psi(I*)), (d,); only `paper` reads it.
        backward_next: B(s'), (N, d).
        target_backward_next: Target B(s'), (N, d).
        discount: gamma, 0 where s' is terminal, (N,).
        weight: 1 for a transition inside an episode, 0 for a pair of rows across a reset, (N,). For `measure` also 0
            where s' has no embedding.
        group: Which stretch of consecutive rows a transition is from, int (N,), or None where all were drawn one by
            one: states of one stretch are not independent, and `measure` leaves such pairs out of its squared term.
    """

    forward: Sequence[jax.Array]
    target_forward: Sequence[jax.Array]
    backward_goal: jax.Array
    target_backward_goal: jax.Array
    backward_next: jax.Array
    target_backward_next: jax.Array
    discount: jax.Array
    weight: jax.Array
    group: jax.Array | None = None


Objective = Callable[[Representations, float, bool], tuple[jax.Array, Metrics]]


def orthonormality(backward: jax.Array, weight: jax.Array) -> tuple[jax.Array, Metrics]:
    """||E[B B^T] - I_d||_F^2 over the batch (appendix A). ``backward`` (N, d), ``weight`` (N,)."""
    weight = weight / jnp.maximum(weight.sum(), 1.0)
    covariance = jnp.einsum("n,ni,nj->ij", weight, backward, backward)  # (d, d)
    loss = jnp.square(covariance - jnp.eye(backward.shape[-1])).sum()
    return loss, {"ortho": loss}


def paper(reps: Representations, ortho: float, pessimism: bool = True) -> tuple[jax.Array, Metrics]:
    """Equation (8) as printed, plus ``ortho`` times the orthonormality loss of appendix A.

    The goal psi(I*) stands in the squared and in the linear term alike, so the minimum is F.B = 1/(1 - gamma) for
    every state and action (docs/fidelity.md). Each head is regressed on the smaller of the two target heads, or
    without ``pessimism`` on their mean.
    """
    target = product(reps.target_forward, reps.target_backward_goal, pessimism)  # (N,)
    target = jax.lax.stop_gradient(reps.discount * target)
    products = [forward @ reps.backward_goal for forward in reps.forward]  # (N,) each
    squared = sum(mean(jnp.square(x - target), reps.weight) for x in products)
    linear = sum(-2 * mean(x, reps.weight) for x in products)
    norm, metrics = orthonormality(reps.backward_next, reps.weight)
    loss = squared + linear + ortho * norm
    spread = mean(jnp.square(products[0] - mean(products[0], reps.weight)), reps.weight)
    metrics |= {
        "loss": loss,
        "squared": squared,
        "linear": linear,
        "product": sum(mean(x, reps.weight) for x in products) / len(products),
        "product_spread": jnp.sqrt(spread),
        "target": mean(target, reps.weight),
        "transitions": reps.weight.sum(),
        "forward_norm": jnp.linalg.norm(reps.forward[0], axis=-1).mean(),
        "backward_norm": jnp.linalg.norm(reps.backward_next, axis=-1).mean(),
    }
    return loss, metrics


def measure(reps: Representations, ortho: float, pessimism: bool = True) -> tuple[jax.Array, Metrics]:
    """The loss that eq. (8) descends from (Touati & Ollivier 2021, "Learning one representation to optimize all
    rewards"), plus ``ortho`` times the orthonormality loss over the batch.

    With M_ij = F(s_i, a_i, z_i).B(s'_j) and its target from the slow networks: mean over i != j of
    (M_ij - gamma_i M'_ij)^2, less twice the mean of M_ii, for each head. At the minimum F.B is the successor measure of
    pi_z, as a density with respect to the replay: how much more often than by chance, discounted, a state follows.
    """
    target = product(reps.target_forward, reps.target_backward_next, pessimism)  # (N, N)
    target = jax.lax.stop_gradient(reps.discount[:, None] * target)
    products = [forward @ reps.backward_next.T for forward in reps.forward]  # (N, N) each
    pairs = independent(reps.weight, reps.group)  # (N, N)
    squared = sum(mean(jnp.square(x - target), pairs) for x in products)
    linear = sum(-2 * mean(jnp.diagonal(x), reps.weight) for x in products)
    norm, metrics = orthonormality_of_pairs(reps.backward_next, pairs, reps.weight)
    loss = squared + linear + ortho * norm
    average = mean(products[0], pairs)
    metrics |= {
        "loss": loss,
        "squared": squared,
        "linear": linear,
        "product": average,
        "product_next": mean(jnp.diagonal(products[0]), reps.weight),
        "product_spread": jnp.sqrt(mean(jnp.square(products[0] - average), pairs)),
        "target": mean(target, pairs),
        "transitions": reps.weight.sum(),
        "forward_norm": jnp.linalg.norm(reps.forward[0], axis=-1).mean(),
        "backward_norm": jnp.linalg.norm(reps.backward_next, axis=-1).mean(),
    }
    return loss, metrics


def independent(weight: jax.Array, group: jax.Array | None = None) -> jax.Array:
    """float32 (N, N): 1 for two transitions that count and are not of one group; without groups, are not the same."""
    group = jnp.arange(len(weight)) if group is None else group
    return weight[:, None] * weight[None] * (group[:, None] != group[None])


def orthonormality_of_pairs(backward: jax.Array, pairs: jax.Array, weight: jax.Array) -> tuple[jax.Array, Metrics]:
    """||E[B B^T] - I_d||_F^2 from pairs of independent states, so that its mean is right however few there are.

    :func:`orthonormality` squares the batch's own covariance, which adds about d^2 / N.

    Args:
        backward: B(s), (N, d).
        pairs: From :func:`independent`, (N, N).
        weight: As in :class:`Representations`, (N,).
    """
    products = backward @ backward.T  # (N, N)
    loss = mean(jnp.square(products), pairs) - 2 * mean(jnp.diagonal(products), weight) + backward.shape[-1]
    return loss, {"ortho": loss}


def actor(
    forward: Sequence[jax.Array], z: jax.Array, weight: jax.Array, pessimism: bool = True
) -> tuple[jax.Array, Metrics]:
    """What pi_z is trained on: F(s, pi_z(s), z).z, to be large (eq. 7: pi_z takes the action with the largest).

    Args:
        forward: F(s, pi_z(s), z) of each head, (N, d) each; no gradient may reach the heads' own weights.
        z: (N, d).
        weight: (N,).
    """
    values = of_heads([jnp.einsum("nd,nd->n", x, z) for x in forward], pessimism)
    loss = -mean(values, weight)
    return loss, {"actor": loss}


OBJECTIVES: dict[str, Objective] = {"paper": paper, "measure": measure}


def objective(name: str) -> Objective:
    """The objective of that name.

    Raises:
        UserError: There is none.
    """
    if name not in OBJECTIVES:
        raise UserError(f"fb.objective is {name!r}; known objectives are: {', '.join(OBJECTIVES)}.")
    return OBJECTIVES[name]


def metric_names(name: str) -> tuple[str, ...]:
    """Names of the metrics that objective gives, without computing anything; :func:`actor` adds 'actor'."""
    one, pair = jax.ShapeDtypeStruct((1,), jnp.float32), jax.ShapeDtypeStruct((1, 1), jnp.float32)
    reps = Representations([pair] * 2, [pair] * 2, one, one, pair, pair, one, one)
    return tuple(jax.eval_shape(lambda reps: objective(name)(reps, 1.0)[1], reps))


def product(forwards: Sequence[jax.Array], backward: jax.Array, pessimism: bool = True) -> jax.Array:
    """F.B over the heads, see :func:`of_heads`.

    Args:
        forwards: (N, d) each.
        backward: (d,), or (M, d) for every pair.

    Returns:
        (N,), or (N, M).
    """
    return of_heads([forward @ backward.T for forward in forwards], pessimism)


def of_heads(values: Sequence[jax.Array], pessimism: bool) -> jax.Array:
    """The smallest of the heads' values, or their mean; each of one shape, and so the result."""
    stacked = jnp.stack(values)
    return stacked.min(0) if pessimism else stacked.mean(0)


def mean(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Mean of ``x`` over what counts; both of one shape."""
    return (x * weight).sum() / jnp.maximum(weight.sum(), 1.0)
