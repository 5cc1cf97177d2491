"""z and the reward's scale: lengths, shares, and that nothing depends on units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genreward_jax.errors import UserError
from genreward_jax.fb import settings
from genreward_jax.fb.actor import Actor, noisy
from genreward_jax.fb.networks import to_sphere
from genreward_jax.fb.sampling import Scale, sample_z
from genreward_jax.fb.standard import fit

KEY = jax.random.key(0)


@pytest.mark.parametrize("mix", [0.0, 0.5, 1.0])
def test_z_is_of_length_root_d_and_a_share_of_it_is_b_of_states(mix):
    count, dim = 2000, 6
    backward = jax.random.normal(jax.random.key(1), (count, dim))
    z = np.asarray(sample_z(KEY, backward, mix))
    np.testing.assert_allclose(np.linalg.norm(z, axis=-1), np.sqrt(dim), rtol=1e-5)
    states = np.asarray(to_sphere(backward))
    nearest = np.abs(z[:, None] - states[None]).max(-1)  # (N, N)
    from_states = nearest.min(1) < 1e-5
    assert abs(from_states.mean() - mix) < 0.05
    if mix:  # they are other rows' states: no pair tells z from its own next state
        assert np.mean(nearest.argmin(1)[from_states] == np.flatnonzero(from_states)) < 0.01


def test_no_gradient_goes_through_z():
    grad = jax.grad(lambda b: sample_z(KEY, b, 0.5).sum())(jnp.ones((8, 4)))
    assert not np.any(grad)


def test_normalised_rewards_mean_the_same_in_any_unit():
    rng = np.random.default_rng(0)
    batches = rng.normal(3, 2, (400, 64)).astype(np.float32)
    results = []
    for unit, shift in ((1.0, 0.0), (1000.0, -50.0)):
        scale = Scale.start()
        np.testing.assert_array_equal(scale.normalise(jnp.ones(3)), 0.0)  # nothing seen yet
        for batch in unit * batches + shift:
            scale = scale.update(batch, np.ones(64))
        results.append(np.asarray(scale.normalise(unit * batches[-1] + shift)))
    np.testing.assert_allclose(results[0], (batches[-1] - 3) / 2, atol=0.1)
    np.testing.assert_allclose(results[0], results[1], atol=2e-3)


def test_one_batch_is_enough_and_rows_that_do_not_count_do_not():
    rewards, weight = np.array([1.0, 3.0, 99.0], np.float32), np.array([1.0, 1.0, 0.0])
    scale = Scale.start().update(rewards, weight)
    np.testing.assert_allclose(scale.normalise(jnp.array([1.0, 2.0, 3.0])), [-1, 0, 1], atol=1e-4)
    untouched = scale.update(rewards, np.zeros(3))
    np.testing.assert_array_equal(untouched, scale)


def test_a_constant_reward_stays_near_zero():
    scale = Scale.start()
    for _ in range(50):
        scale = scale.update(np.full(16, 50.0, np.float32), np.ones(16))
    assert np.abs(scale.normalise(jnp.array([50.0, 50.0001]))).max() < 0.1


def test_noise_is_cut_and_actions_stay_in_their_range():
    action = jnp.array([[0.0] * 500, [0.9] * 500])
    made = np.asarray(noisy(action, KEY, 0.2, 0.3))
    assert np.abs(made[0]).max() <= 0.3 + 1e-6 and 0.15 < made[0].std() < 0.2
    assert made[1].max() <= 1 and made[1].min() >= 0.6 - 1e-6


def test_the_actor_depends_on_state_and_z():
    actor, state, z = Actor(actions=3, hidden=16), np.ones((5, 7)), np.ones((5, 4))
    made, params = actor.init_with_output(KEY, state, z)
    assert made.shape == (5, 3) and np.abs(made).max() <= 1
    for moved in ((2 * state + np.arange(7), z), (state, z + np.arange(4))):
        assert np.abs(actor.apply(params, *moved) - made).max() > 1e-3


def test_standardised_embeddings_differ_where_raw_ones_hardly_do():
    """Embeddings of one scene: a large common part, and little that differs, in a plane."""
    rng = np.random.default_rng(0)
    plane, where = rng.normal(size=(2, 30)), rng.normal(size=(200, 2)) * [1, 0.3]
    rows = 10 + 0.01 * where @ plane
    standard = fit(rows, components=8)
    made = standard(rows)
    assert made.shape == (200, 8) and made.dtype == np.float32
    np.testing.assert_allclose(np.mean(made**2), 1, rtol=1e-3)
    np.testing.assert_allclose(made.mean(0), 0, atol=1e-3)
    far = lambda x: np.linalg.norm(x[:, None] - x[None], axis=-1)
    ratio = far(made)[np.triu_indices(200, 1)] / far(rows)[np.triu_indices(200, 1)]
    np.testing.assert_allclose(ratio, ratio[0], rtol=0.02)  # distances keep their proportions
    spreads = fit(rows, components=8, whiten=1.0)(rows).std(0)
    np.testing.assert_allclose(spreads[:2], spreads[0], rtol=1e-3)
    assert spreads[2:].max() < 1e-3  # rounding is not blown up


def section(**changes):
    from tests.patches.tiny_agent import defaults

    return {**defaults().fb, **changes}


def test_auto_is_the_printed_reading_for_paper_and_the_literature_for_measure():
    paper, measure = (settings.resolve(section(objective=name)) for name in ("paper", "measure"))
    names = ("next_action", "forward_state", "backward_state", "dino", "goal", "z_mix", "discount")
    assert [paper[name] for name in names] == ["replay", "tokens", "tokens", "pooled", "key", 0.0, 0.98]
    assert [measure[name] for name in names] == ["actor", "tokens", "dino", "regions", "end", 0.5, 0.98]
    chosen = settings.resolve(section(objective="measure", next_action="agent", z_mix=0.0, discount=0.9))
    assert [chosen[name] for name in ("next_action", "z_mix", "discount")] == ["agent", 0.0, 0.9]
    assert settings.resolve(chosen) == chosen
    beside_tokens = settings.resolve(section(objective="measure", backward_state="tokens"))
    assert beside_tokens["goal"] == "key"


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"backward_state": "dinos"}, "did you mean dino"),
        ({"reward_norm": "runing"}, "did you mean running"),
        ({"z_mix": 1.5}, "share from 0 to 1"),
        ({"lr": 0.0}, "more than 0"),
        ({"z": "psi", "dim": 16}, "384"),
        ({"z": "psi", "objective": "measure"}, "as printed"),
        ({"goal": "end"}, "needs --fb.backward_state dino"),
    ],
)
def test_wrong_flags_are_sentences(changes, words):
    with pytest.raises(UserError, match=words):
        settings.resolve(section(**changes))
