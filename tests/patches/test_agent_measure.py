"""The agent with FB under `measure`: embeddings in its batches, every kind of state at reward time, checkpoints."""

import numpy as np
import pytest

from dreamerv3_patches import checkpoint
from dreamerv3_patches.agent import make_agent
from genreward_jax.errors import UserError
from tests.patches.test_agent import paid, play, same, train
from tests.patches.tiny_agent import ACT, BATCH, OBS, batch, fb_section, settings

MEASURE = dict(objective="measure", pays_from="start", reward_norm="running")
RESETS = [[True, True], [False, False], [False, False], [True, False]]
EVERY = 2
GOAL = np.random.default_rng(5).normal(size=(18, 4 * 384)).astype(np.float32)


def make(interval, **changes):
    agent = make_agent(OBS, ACT, settings(), fb=fb_section(**{**MEASURE, **changes}), reward_interval=interval)
    agent.set_goal(GOAL)
    return agent


@pytest.fixture(scope="module")
def agent():
    """F sees the world model's state, B embeddings of every second row."""
    return make(1, forward_state="deter", dino_every=EVERY)


@pytest.fixture(scope="module")
def data(agent):
    data = batch(agent)
    data["dino_valid"][:, ::EVERY] = True
    data["dino"] = np.random.default_rng(1).normal(size=data["dino"].shape).astype(np.float32)
    data["dino"][~data["dino_valid"]] = 0
    return data


def test_embeddings_are_in_batches_and_not_observed(agent):
    assert agent.spaces["dino"].shape == (4 * 384,) and agent.spaces["dino_valid"].dtype == bool
    assert "dino" not in agent.obs_space and not any("dino" in key for key in agent.model.enc.obs_space)
    assert not any(key.startswith(("enc/mlp", "dec/mlp")) for key in agent.params)  # they would be vectors to upstream


def test_it_learns_and_a_checkpoint_brings_everything_back(agent, data, tmp_path):
    """Networks, pi_z and its moments, running figures: and then the same updates and rewards."""
    before = agent.save()["params"]
    metrics = train(agent, 3, data=data)
    # Row 0 is context: of the four transitions between rows 1 to 5, those into rows 2 and 4 count.
    assert metrics["fb/transitions"] == BATCH * 2
    assert {"fb/product_next", "fb/actor", "fb/reward_mean", "fb/reward_spread"} <= set(metrics)
    trained = agent.save()["params"]
    fresh = ("fb/dino_mean/value", "fb/scale_seen/value", "fb/map_deter/params/Dense_0/kernel")
    fresh += ("fb/actor/params/Dense_0/kernel", "fb/slow_actor/params/Dense_0/kernel")
    assert not any(np.array_equal(before[key], trained[key]) for key in fresh)
    rows = data["dino"][:, 1:][:, [1, 3]].reshape(-1, 4 * 384)
    np.testing.assert_allclose(trained["fb/dino_mean/value"], rows.mean(0), atol=1e-5)

    checkpoint.save_agent(agent, tmp_path / "here")
    checkpoint.load_agent(agent, tmp_path / "here")
    expected = play(agent, RESETS)
    train(agent, 2, data=data)
    ahead = agent.save()["params"]
    checkpoint.load_agent(agent, tmp_path / "here")
    assert same(agent.save()["params"], trained, trained)
    for one, other in zip(expected, play(agent, RESETS), strict=True):
        assert same(one, other, ("action", "reward_fb", "reward_fb_paid"))
    train(agent, 2, data=data)
    assert same(agent.save()["params"], ahead, ahead)


def test_a_normalised_reward_is_not_paid_before_there_are_figures(data):
    agent = make(1, forward_state="deter", dino_every=EVERY)
    assert not paid(play(agent, RESETS)).any()
    train(agent, 1, data=data)
    agent.load(agent.save())
    assert paid(play(agent, RESETS)).all()


def test_values_of_an_episode_are_those_of_the_policy_call(agent, data):
    """The deterministic state of a reset depends on nothing that is drawn, so there the two agree."""
    train(agent, 1, data=data)
    agent.load(agent.save())  # the policy's own copy of the networks lags behind training, a loaded one does not
    rows = play(agent, RESETS)
    assert paid(rows).all()
    images = np.stack([row["obs"]["image"][0] for row in rows])
    actions = np.stack([row["action"][0] for row in rows])
    first = np.array(RESETS)[:, 0]
    values = agent.fb_values(images, actions, is_first=first)
    played = np.array([row["reward_fb"][0] for row in rows])
    assert values.shape == (4,) and values.dtype == np.float32 and np.isfinite(values).all()
    np.testing.assert_allclose(values[first], played[first], rtol=1e-3, atol=1e-3)
    other = agent.fb_values(images, actions, is_first=np.array([True, False, False, False]))
    assert other[0] == values[0] and abs(other[3] - values[3]) > 1e-4  # it remembers the rows before


def test_a_long_episode_goes_through_one_program(agent):
    rng = np.random.default_rng(0)
    images, actions = rng.integers(0, 256, (300, 16, 16, 3), np.uint8), rng.uniform(-1, 1, (300, 4))
    values = agent.fb_values(images, actions)
    assert values.shape == (300,) and agent._values._cache_size() == 1
    np.testing.assert_array_equal(agent.fb_values(images[:7], actions[:7]), values[:7])


def test_where_f_sees_embeddings_they_are_had_before_a_paid_row():
    agent, asked = make(3, forward_state="dino", reward_norm="none"), []
    with pytest.raises(RuntimeError, match="embed_state"):
        play(agent, [[True, True], [False, False], [False, False]])

    def embed(images):
        asked.append(len(images))
        return np.resize(images[:, :, :, 0].reshape(len(images), -1), (len(images), 4 * 384)).astype(np.float32) / 255

    agent.embed_state = embed
    resets = [[True, True], [False, False], [False, True], [False, False], [False, False]]
    rows = play(agent, resets)
    np.testing.assert_array_equal(np.argwhere(paid(rows)), [[2, 0], [4, 1]])
    assert asked == [1, 1]  # of the frames before a paid row, and no others
    for t, env in ((2, 0), (4, 1)):
        image, action = rows[t]["obs"]["image"][[env]], rows[t]["action"][[env]]
        values = agent.fb_values(image, action, dino=embed(image))
        np.testing.assert_allclose(values, rows[t]["reward_fb"][[env]], rtol=1e-3, atol=1e-4)
    with pytest.raises(UserError, match="give those of the frames"):
        agent.fb_values(image, action)
    asked.clear()
    play(agent, resets, mode="eval")
    assert not asked


def test_without_fb_there_are_no_values(agent):
    model, agent.model = agent.model, type("Plain", (), {"fb": None})()
    try:
        with pytest.raises(UserError, match="no forward-backward network"):
            agent.fb_values(np.zeros((1, 16, 16, 3), np.uint8), np.zeros((1, 4)))
    finally:
        agent.model = model
