"""Equations (7) to (9) and appendix A's loss against plain NumPy on random input; what eq. (8) converges to."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genreward_jax.errors import UserError
from genreward_jax.fb import losses, networks

N, D, GAMMA = 40, 6, 0.9


@pytest.fixture
def reps():
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    weight = (rng.uniform(size=N) > 0.25).astype(np.float32)
    terminal = rng.uniform(size=N) > 0.8
    return losses.Representations(
        forward=[draw(N, D), draw(N, D)],
        target_forward=[draw(N, D), draw(N, D)],
        backward_goal=draw(D),
        target_backward_goal=draw(D),
        backward_next=draw(N, D),
        target_backward_next=draw(N, D),
        discount=(GAMMA * ~terminal).astype(np.float32),
        weight=weight,
    )


def test_equation_8_is_the_printed_one(reps):
    """The goal stands in the squared and in the linear term; both heads chase the smaller target; pairs across a reset
    do not count."""
    keep = reps.weight > 0
    target = np.minimum(*[np.asarray(f) @ reps.target_backward_goal for f in reps.target_forward])
    expected = 0.0
    for forward in reps.forward:
        product = forward @ reps.backward_goal
        expected += np.mean((product - reps.discount * target)[keep] ** 2) - 2 * np.mean(product[keep])
    loss, metrics = losses.paper(reps, ortho=0.0)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["squared"] + metrics["linear"], expected, rtol=1e-5)


def test_orthonormality_is_appendix_a(reps):
    backward = reps.backward_next[reps.weight > 0]
    covariance = np.mean([np.outer(b, b) for b in backward], 0)
    expected = np.linalg.norm(covariance - np.eye(D), "fro") ** 2
    loss, _ = losses.orthonormality(reps.backward_next, reps.weight)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    with_ortho, _ = losses.paper(reps, ortho=2.0)
    without, _ = losses.paper(reps, ortho=0.0)
    np.testing.assert_allclose(with_ortho - without, 2 * expected, rtol=1e-4)


def test_no_gradient_reaches_the_targets(reps):
    """Only F and B of the current networks learn from eq. (8)."""
    grads = jax.grad(lambda reps: losses.paper(reps, 1.0)[0])(reps)
    for frozen in (*grads.target_forward, grads.target_backward_goal, grads.target_backward_next):
        assert not np.any(frozen)
    for trained in (*grads.forward, grads.backward_goal, grads.backward_next):
        assert np.any(trained)


def test_pairs_across_a_reset_teach_nothing(reps):
    loss, _ = losses.paper(reps, 1.0)
    garbage = [np.where(reps.weight[:, None] > 0, f, 1e3).astype(np.float32) for f in reps.forward]
    other, _ = losses.paper(reps._replace(forward=garbage), 1.0)
    np.testing.assert_allclose(loss, other, rtol=1e-6)


def test_metric_names_are_those_of_the_loss(reps):
    assert set(losses.metric_names("paper")) == set(losses.paper(reps, 1.0)[1])


def test_unknown_objective_is_a_sentence():
    with pytest.raises(UserError, match="'guess'.*paper"):
        losses.objective("guess")


def test_equation_9_by_hand():
    """r_FB = F(s, a, z) . B(psi), the smaller of two heads, z = sqrt(d) B(psi)/|B(psi)|, or psi padded with zeros."""
    rng = np.random.default_rng(1)
    dim = networks.STATE_DIM + 4
    psi = rng.normal(size=networks.STATE_DIM).astype(np.float32)
    raw = rng.normal(size=dim).astype(np.float32)
    backward = np.asarray(networks.to_sphere(jnp.array(raw)))
    np.testing.assert_allclose(backward, np.sqrt(dim) * raw / np.linalg.norm(raw), rtol=1e-5)
    np.testing.assert_array_equal(networks.reward_z(psi, backward, "backward"), backward)
    padded = np.asarray(networks.reward_z(psi, backward, "psi"))
    np.testing.assert_array_equal(padded, np.concatenate([psi, np.zeros(4, np.float32)]))
    heads = [rng.normal(size=(3, dim)).astype(np.float32) for _ in range(2)]
    expected = np.minimum(heads[0] @ backward, heads[1] @ backward)
    np.testing.assert_allclose(losses.product(heads, backward), expected, rtol=1e-5)


def test_networks_have_the_shapes_of_equation_7():
    """F: S x A x Z -> Z and B: S -> Z, so that F.B is one number for a pair; B has length sqrt(d)."""
    state, action, z = np.ones((5, networks.STATE_DIM)), np.ones((5, 4)), np.ones((5, 8))
    forward, backward = networks.Forward(dim=8, hidden=16), networks.Backward(dim=8, hidden=16)
    key = jax.random.key(0)
    f, _ = forward.init_with_output(key, state, action, z)
    b, _ = backward.init_with_output(key, state)
    assert f.shape == b.shape == (5, 8)
    np.testing.assert_allclose(np.linalg.norm(b, axis=-1), np.sqrt(8), rtol=1e-5)
    for i in range(3):  # F depends on all of s, a and z
        moved = [x + (i == j) for j, x in enumerate((state, action, z))]
        assert np.abs(forward.init_with_output(key, *moved)[0] - f).max() > 1e-3


def chain_transitions(states: int, count: int):
    """A chain with actions left and right; the next action is random, as in a replay of random behaviour."""
    rng = np.random.default_rng(2)
    s, a, following = rng.integers(states, size=count), rng.integers(2, size=count), rng.integers(2, size=count)
    after = np.clip(s + 2 * a - 1, 0, states - 1)
    embed = np.zeros((states, networks.STATE_DIM), np.float32)
    embed[np.arange(states), np.arange(states)] = 3.0
    one_hot = np.eye(2, dtype=np.float32)
    return embed[s], one_hot[a], embed[after], one_hot[following], embed[-1]


def test_printed_objective_converges_to_the_same_number_everywhere():
    """On a chain with a goal at its end, eq. (8) as printed gives F.B = 1/(1 - gamma) for every state and action: the
    nearest state to the goal is worth no more than the farthest (docs/fidelity.md)."""
    gamma, dim, states = 0.5, 8, 6
    state, action, after, following, goal = chain_transitions(states, 256)
    forward, backward = networks.Forward(dim=dim, hidden=32), networks.Backward(dim=dim, hidden=32)
    keys = jax.random.split(jax.random.key(0), 4)
    z0 = np.zeros((len(state), dim), np.float32)
    params = {
        "heads": [forward.init(key, state, action, z0) for key in keys[:2]],
        "backward": backward.init(keys[2], state),
    }
    opt = optax.adam(3e-3)

    def loss(params, slow, key):
        z = networks.to_sphere(jax.random.normal(key, z0.shape))
        apply = lambda p, s, a: [forward.apply(head, s, a, z) for head in p["heads"]]
        reps = losses.Representations(
            forward=apply(params, state, action),
            target_forward=apply(slow, after, following),
            backward_goal=backward.apply(params["backward"], goal),
            target_backward_goal=backward.apply(slow["backward"], goal),
            backward_next=backward.apply(params["backward"], after),
            target_backward_next=backward.apply(slow["backward"], after),
            discount=jnp.full(len(state), gamma),
            weight=jnp.ones(len(state)),
        )
        return losses.paper(reps, 1.0)[0]

    def step(carry, key):
        params, slow, moments = carry
        updates, moments = opt.update(jax.grad(loss)(params, slow, key), moments)
        params = optax.apply_updates(params, updates)
        slow = jax.tree.map(lambda new, old: 0.02 * new + 0.98 * old, params, slow)
        return (params, slow, moments), None

    carry = (params, params, opt.init(params))
    (params, _, _), _ = jax.jit(lambda c: jax.lax.scan(step, c, jax.random.split(keys[3], 1500)))(carry)
    b = backward.apply(params["backward"], goal)
    z = jnp.broadcast_to(b, z0.shape)
    products = [np.asarray(forward.apply(head, state, action, z) @ b) for head in params["heads"]]
    np.testing.assert_allclose(products, 1 / (1 - gamma), atol=0.15)
