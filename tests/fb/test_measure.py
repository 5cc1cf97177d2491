"""The `measure` losses against plain loops over transitions on random input; what may and may not learn from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genreward_jax.fb import losses
from genreward_jax.fb.losses import Representations

N, D, GAMMA = 18, 5, 0.9


@pytest.fixture
def reps():
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    terminal = rng.uniform(size=N) > 0.8
    return Representations(
        forward=[draw(N, D), draw(N, D)],
        target_forward=[draw(N, D), draw(N, D)],
        backward_goal=draw(D),
        target_backward_goal=draw(D),
        backward_next=draw(N, D),
        target_backward_next=draw(N, D),
        discount=(GAMMA * ~terminal).astype(np.float32),
        weight=(rng.uniform(size=N) > 0.25).astype(np.float32),
        group=np.arange(N) // 3,
    )


def by_loops(reps: Representations, pessimism: bool) -> tuple[float, float]:
    """(squared, linear) of both heads, transition by transition."""
    choose = min if pessimism else lambda values: sum(values) / len(values)
    group = np.arange(N) if reps.group is None else reps.group
    kept = [i for i in range(N) if reps.weight[i]]
    squared = linear = 0.0
    for forward in reps.forward:
        errors = []
        for i in kept:
            for j in kept:
                if group[i] == group[j]:
                    continue  # not independent
                target = choose([float(t[i] @ reps.target_backward_next[j]) for t in reps.target_forward])
                errors.append((float(forward[i] @ reps.backward_next[j]) - reps.discount[i] * target) ** 2)
        squared += np.mean(errors)
        linear -= 2 * np.mean([float(forward[i] @ reps.backward_next[i]) for i in kept])
    return squared, linear


@pytest.mark.parametrize("pessimism", [True, False])
@pytest.mark.parametrize("grouped", [True, False])
def test_measure_is_the_published_loss(reps, pessimism, grouped):
    """The linear term has B of the same transition's next state, the squared one B of independent states."""
    reps = reps if grouped else reps._replace(group=None)
    squared, linear = by_loops(reps, pessimism)
    loss, metrics = losses.measure(reps, 0.0, pessimism)
    np.testing.assert_allclose(metrics["squared"], squared, rtol=1e-5)
    np.testing.assert_allclose(metrics["linear"], linear, rtol=1e-5)
    np.testing.assert_allclose(loss, squared + linear, rtol=1e-5)


def test_orthonormality_over_pairs_by_loops(reps):
    kept = [i for i in range(N) if reps.weight[i]]
    b, group = reps.backward_next, reps.group
    pairs = [float(b[i] @ b[j]) ** 2 for i in kept for j in kept if group[i] != group[j]]
    expected = np.mean(pairs) - 2 * np.mean([b[i] @ b[i] for i in kept]) + D
    with_ortho, metrics = losses.measure(reps, 2.0)
    np.testing.assert_allclose(metrics["ortho"], expected, rtol=1e-5)
    np.testing.assert_allclose(with_ortho - losses.measure(reps, 0.0)[0], 2 * expected, rtol=1e-4)


def test_orthonormality_over_pairs_is_right_on_average():
    """Small batches of states whose E[B B^T] is known give, on average, its distance from the identity."""
    rng = np.random.default_rng(1)
    root = rng.normal(size=(D, D))
    draws = (rng.normal(size=(4000, 6, D)) @ root.T).astype(np.float32)
    one = jnp.ones(6)
    loss = jax.vmap(lambda b: losses.orthonormality_of_pairs(b, losses.independent(one), one)[0])(draws)
    expected = np.linalg.norm(root @ root.T - np.eye(D), "fro") ** 2
    assert abs(np.mean(loss) - expected) < 4 * np.std(loss) / np.sqrt(len(draws))


def test_no_gradient_reaches_the_targets(reps):
    grads = jax.grad(lambda reps: losses.measure(reps, 1.0)[0])(reps._replace(group=None))
    for frozen in (*grads.target_forward, grads.target_backward_next, grads.backward_goal, grads.target_backward_goal):
        assert not np.any(frozen)
    for trained in (*grads.forward, grads.backward_next):
        assert np.any(trained)


def test_transitions_that_do_not_count_teach_nothing(reps):
    spoilt = lambda x: np.where(reps.weight[:, None] > 0, x, 1e3).astype(np.float32)
    other = reps._replace(
        forward=[spoilt(f) for f in reps.forward],
        backward_next=spoilt(reps.backward_next),
        target_backward_next=spoilt(reps.target_backward_next),
    )
    np.testing.assert_allclose(losses.measure(reps, 1.0)[0], losses.measure(other, 1.0)[0], rtol=1e-6)


def test_a_batch_without_any_pair_is_finite(reps):
    loss, _ = losses.measure(reps._replace(weight=np.zeros(N, np.float32)), 1.0)
    assert np.isfinite(loss)


def test_metric_names_are_those_of_the_loss(reps):
    assert set(losses.metric_names("measure")) == set(losses.measure(reps, 1.0)[1])


@pytest.mark.parametrize("pessimism", [True, False])
def test_actor_loss_by_loops(reps, pessimism):
    """Less the mean of F.z, the smaller head's or their mean."""
    z = np.random.default_rng(2).normal(size=(N, D)).astype(np.float32)
    choose = min if pessimism else np.mean
    kept = [i for i in range(N) if reps.weight[i]]
    expected = -np.mean([choose([float(f[i] @ z[i]) for f in reps.forward]) for i in kept])
    loss, metrics = losses.actor(reps.forward, z, reps.weight, pessimism)
    np.testing.assert_allclose([loss, metrics["actor"]], expected, rtol=1e-5)


def test_paper_takes_the_mean_of_heads_by_flag(reps):
    keep = reps.weight > 0
    target = np.mean([t @ reps.target_backward_goal for t in reps.target_forward], 0)
    squared = sum(np.mean((f @ reps.backward_goal - reps.discount * target)[keep] ** 2) for f in reps.forward)
    np.testing.assert_allclose(losses.paper(reps, 0.0, False)[1]["squared"], squared, rtol=1e-5)
