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
        backward_goal: B(psi(I*)), (d,).
        target_backward_goal: Target B(psi(I*)), (d,).
        backward_next: B(s'), (N, d).
        target_backward_next: Target B(s'), (N, d).
        discount: gamma, 0 where s' is terminal, (N,).
        weight: 1 for a transition inside an episode, 0 for a pair of rows across a reset, (N,).
    """

    forward: Sequence[jax.Array]
    target_forward: Sequence[jax.Array]
    backward_goal: jax.Array
    target_backward_goal: jax.Array
    backward_next: jax.Array
    target_backward_next: jax.Array
    discount: jax.Array
    weight: jax.Array


def orthonormality(backward: jax.Array, weight: jax.Array) -> tuple[jax.Array, Metrics]:
    """||E[B B^T] - I_d||_F^2 over the batch (appendix A). ``backward`` (N, d), ``weight`` (N,)."""
    weight = weight / jnp.maximum(weight.sum(), 1.0)
    covariance = jnp.einsum("n,ni,nj->ij", weight, backward, backward)  # (d, d)
    loss = jnp.square(covariance - jnp.eye(backward.shape[-1])).sum()
    return loss, {"ortho": loss}


def paper(reps: Representations, ortho: float) -> tuple[jax.Array, Metrics]:
    """Equation (8) as printed, plus ``ortho`` times the orthonormality loss of appendix A.

    The goal psi(I*) stands in the squared and in the linear term alike, so the minimum is F.B = 1/(1 - gamma) for
    every state and action (docs/fidelity.md). Each head is regressed on the smaller of the two target heads.
    """
    target = smaller(reps.target_forward, reps.target_backward_goal)  # (N,)
    target = jax.lax.stop_gradient(reps.discount * target)
    products = [forward @ reps.backward_goal for forward in reps.forward]  # (N,) each
    squared = sum(mean(jnp.square(product - target), reps.weight) for product in products)
    linear = sum(-2 * mean(product, reps.weight) for product in products)
    norm, metrics = orthonormality(reps.backward_next, reps.weight)
    loss = squared + linear + ortho * norm
    spread = mean(jnp.square(products[0] - mean(products[0], reps.weight)), reps.weight)
    metrics |= {
        "loss": loss,
        "squared": squared,
        "linear": linear,
        "product": sum(mean(product, reps.weight) for product in products) / len(products),
        "product_spread": jnp.sqrt(spread),
        "target": mean(target, reps.weight),
        "transitions": reps.weight.sum(),
        "forward_norm": jnp.linalg.norm(reps.forward[0], axis=-1).mean(),
        "backward_norm": jnp.linalg.norm(reps.backward_next, axis=-1).mean(),
    }
    return loss, metrics


OBJECTIVES: dict[str, Callable[[Representations, float], tuple[jax.Array, Metrics]]] = {"paper": paper}


def objective(name: str) -> Callable[[Representations, float], tuple[jax.Array, Metrics]]:
    """The objective of that name.

    Raises:
        UserError: There is none.
    """
    if name not in OBJECTIVES:
        raise UserError(f"fb.objective is {name!r}; known objectives are: {', '.join(OBJECTIVES)}.")
    return OBJECTIVES[name]


def metric_names(name: str) -> tuple[str, ...]:
    """Names of the metrics that objective gives, without computing anything."""
    one, pair = jax.ShapeDtypeStruct((1,), jnp.float32), jax.ShapeDtypeStruct((1, 1), jnp.float32)
    reps = Representations([pair] * 2, [pair] * 2, one, one, pair, pair, one, one)
    return tuple(jax.eval_shape(lambda reps: objective(name)(reps, 1.0)[1], reps))


def smaller(forwards: Sequence[jax.Array], backward: jax.Array) -> jax.Array:
    """min over the heads of F.B; ``forwards`` (N, d) each, ``backward`` (d,), result (N,)."""
    return jnp.stack([forward @ backward for forward in forwards]).min(0)


def mean(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Mean of ``x`` (N,) over the transitions that count."""
    return (x * weight).sum() / jnp.maximum(weight.sum(), 1.0)
