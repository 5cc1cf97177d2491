"""Scored rewards: what training would pay, to the bit; windows that slide; controls that come out right."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from genreward_jax import config as config_lib
from genreward_jax import parts, rewarding
from genreward_jax.errors import UserError
from genreward_jax.rewards.base import Schedule
from genreward_jax.score import metrics, windows
from genreward_jax.score import trajectories as trajectories_lib
from genreward_jax.score.context import Context
from genreward_jax.score.names import CONTROLS, make_scorers
from genreward_jax.video import write_video
from genreward_jax.windows import sample_indices
from tests.score.small import FakeNetworks

INTERVAL, LENGTH, SEEDS = 16, 40, 4
FLAGS = (
    "--preset smoke --task metaworld_door_close --env.metaworld.quality fast --env.metaworld.repeat 4 "
    f"--env.metaworld.length {LENGTH} --reward.interval {INTERVAL} --method genreward_no_fb"
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return config_lib.parse([*FLAGS.split(), "--goal.source", str(tmp_path_factory.mktemp("goal") / "goal.mp4")])


@pytest.fixture(scope="module")
def episodes(config):
    settings = trajectories_lib.env_settings(config)
    env = parts.make_env(config, 0)
    yield [
        trajectories_lib.play(env, settings, behaviour, trajectories_lib.SEED + seed)[0]
        for behaviour in ("expert", "random")
        for seed in range(SEEDS)
    ]
    env.close()


@pytest.fixture(scope="module")
def trained(config, episodes, tmp_path_factory):
    """What training would set up: bridge, goal and shaper."""
    write_video(config.goal.source, episodes[0].frames, 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENREWARD_CACHE", str(tmp_path_factory.mktemp("cache")))
        made = rewarding.make_rewarding(config, parts.check(config), tmp_path_factory.mktemp("run"), lambda text: None)
        yield made
        made.close()


@pytest.fixture
def context(config, trained):
    made = Context(config, say=lambda text: None)
    made._bridge, made._goals = trained.bridge, {"": trained.goal}
    return made


@pytest.fixture
def scorer(config, context):
    """``scorer(name)`` is ready to judge."""

    def make(name):
        found = make_scorers([name], lambda method: config)[0]
        found.prepare(context)
        return found

    return make


def test_as_trained_is_what_training_pays(trained, scorer, episodes):
    """The same rows through the shaper that make_rewarding built: equal to the bit, and nothing between."""
    video, method = scorer("video"), scorer("genreward_no_fb")
    for trajectory in (episodes[0], episodes[-1]):
        rows = []
        for row in trajectories_lib.rows_of(trajectory):
            rows += trained.shaper.push(0, row)
        rows += [row for _, row in trained.shaper.flush()]
        values = video.values(trajectory)
        np.testing.assert_array_equal(values.as_trained, [row["reward_video"] for row in rows])
        assert np.flatnonzero(np.isfinite(values.as_trained)).tolist() == [16, 32]
        added = [float(row["reward"]) - float(row["reward_env"]) for row in rows]
        np.testing.assert_allclose(values.weighted, added, atol=2e-6)  # the row's float32 sum rounds
        whole = method.values(trajectory)
        np.testing.assert_array_equal(whole.weighted, values.weighted)
        np.testing.assert_array_equal(whole.as_trained[[16, 32]], values.weighted[[16, 32]])


def test_every_step_slides_by_eight_and_meets_what_training_pays(scorer, episodes):
    values = scorer("video").values(episodes[0])
    there = np.flatnonzero(np.isfinite(values.every_step))
    assert there.tolist() == [16, 24, 32, 40]
    np.testing.assert_allclose(values.every_step[[16, 32]], values.as_trained[[16, 32]], rtol=1e-6)
    assert len(set(values.every_step[there])) == 4


def test_sliding_windows_hold_the_steps_that_they_end_with(episodes):
    reward = SimpleNamespace(wants_frames=True, runs_in="bridge", outputs=("z",))
    trajectory, outputs = episodes[0], {"z": np.arange(LENGTH + 1)}
    found = dict(windows.sliding(reward, Schedule("every", 24, frames=5), trajectory, trajectory.frames, outputs))
    assert list(found) == [16, 24, 32, 40]
    for end, window in found.items():
        steps = np.arange(max(1, end - 23), end + 1)  # the first window is shorter
        np.testing.assert_array_equal(window.frames, trajectory.frames[steps[sample_indices(len(steps), 5)]])
        np.testing.assert_array_equal(window.actions, trajectory.actions[steps - 1])
        np.testing.assert_array_equal(window.rewards, trajectory.rewards[steps])
        np.testing.assert_array_equal(window.outputs["z"], steps - 1)
        assert (window.step, window.ended) == (end, end == LENGTH)


def test_controls_come_out_right(config, context, episodes):
    scorers = [s for s in make_scorers(["video"], lambda method: config) if s.name in CONTROLS]
    assert [s.name for s in scorers] == list(CONTROLS)
    found = {}
    for scorer in scorers:
        scorer.prepare(context)
        found[scorer.name] = metrics.measure(episodes, [scorer.values(t) for t in episodes])
    for variant in ("as_trained", "every_step"):
        area = {name: of[f"ranking/{variant}/auc_expert_vs_random"] for name, of in found.items()}
        assert area["random"]["low"] <= 0.5 <= area["random"]["high"]
        assert area["constant"]["value"] == area["ramp"]["value"] == 0.5
        assert area["env"]["value"] == 1.0
    time = {name: of["alignment/every_step/spearman_time"]["value"] for name, of in found.items()}
    assert (time["constant"], time["ramp"]) == (0.0, 1.0) and abs(time["random"]) < 0.5
    assert found["env"]["alignment/every_step/spearman_env_reward"]["value"] == 1.0
    assert found["env"]["agent/as_trained/share_by_size"]["value"] == 0.5
    assert found["ramp"]["agent/as_trained/rows"]["value"] == 2 * len(episodes)


def test_pixels_is_the_cosine_to_the_key_frame(scorer, trained, episodes):
    values = scorer("pixels").values(episodes[1])
    key, frames = (x.astype(np.float64) for x in (trained.goal.key_frame, episodes[1].frames))
    want = [(f * key).sum() / np.sqrt((f**2).sum() * (key**2).sum()) for f in frames]
    np.testing.assert_allclose(values.every_step[1:], want[1:], rtol=1e-6)


def test_random_is_the_same_for_the_same_episode_and_another_at_each_step(scorer, episodes):
    first, again = (scorer("random").values(episodes[2]).every_step[1:] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len(set(first)) == LENGTH and 0 <= first.min() < first.max() < 1
    assert not set(first) & set(scorer("random").values(episodes[3]).every_step[1:])


def test_r_fb_of_a_row_is_that_of_the_row_before(config, context, episodes, trained):
    context.networks["measure", True, False] = networks = FakeNetworks()
    scorer, video, *_ = make_scorers(["fb_measure_mix", "video"], lambda method: config)
    assert "measure" in scorer.trains(context) and not video.trains(context)
    scorer.prepare(context)
    values = scorer.values(episodes[0])
    assert np.isnan(values.every_step[0]) and networks.task == ""
    np.testing.assert_array_equal(values.every_step[1:], np.arange(LENGTH))
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(values.as_trained)), [16, 32])
    np.testing.assert_array_equal(values.as_trained[[16, 32]], [15, 31])
    np.testing.assert_allclose(values.weighted[16], 15 * config.reward.beta)
    assert scorer.cost(episodes[0]) > 0 and context.keeps


def test_a_method_is_the_weighted_sum_of_its_terms(config, context, scorer, episodes):
    context.networks["paper", False, False] = FakeNetworks()
    flags = config.update({"method": "genreward", "reward.beta": 0.5})
    method = make_scorers(["genreward"], lambda name: flags)[0]
    method.prepare(context)
    values, video = method.values(episodes[0]), scorer("video").values(episodes[0])
    steps = np.array([16, 24, 32, 40])
    want = config.reward.alpha * video.every_step[steps] + 0.5 * (steps - 1)
    np.testing.assert_allclose(values.every_step[steps], want, rtol=1e-6)
    np.testing.assert_allclose(values.weighted[[16, 32]], want[[0, 2]], rtol=1e-6)
    np.testing.assert_array_equal(values.as_trained[[16, 32]], values.weighted[[16, 32]])
    held = config.reward.alpha * video.every_step[24] + 0.5 * (np.arange(24, 32) - 1)  # the window stands, r_FB goes on
    np.testing.assert_allclose(values.every_step[24:32], held, rtol=1e-6)
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(values.every_step)), np.arange(16, LENGTH + 1))
    assert not values.weighted[1:16].any()


def test_a_user_s_own_class_runs_in_the_model_process(scorer, episodes):
    own = scorer("tests.score.user_reward:Brightness")
    values = own.values(episodes[0])
    paid = np.arange(8, LENGTH + 1, 8)
    np.testing.assert_allclose(values.as_trained[paid], episodes[0].frames[paid].mean((1, 2, 3)), rtol=1e-6)
    assert np.isfinite(values.as_trained).sum() == len(paid)
    assert np.flatnonzero(np.isfinite(values.every_step)).tolist() == [16, 24, 32, 40]
    assert "tests.score.user_reward" not in sys.modules


def test_memories_are_not_asked_twice_and_an_end_is_tried_at_every_step(scorer, episodes):
    counted = scorer("tests.score.user_reward:Counter").values(episodes[0])
    np.testing.assert_array_equal(counted.as_trained, counted.every_step)
    ended = scorer("tests.score.user_reward:Last").values(episodes[0])
    assert np.flatnonzero(np.isfinite(ended.as_trained)).tolist() == [LENGTH]
    assert ended.as_trained[LENGTH] == ended.every_step[LENGTH] == LENGTH + 1
    assert np.flatnonzero(np.isfinite(ended.every_step)).tolist() == [16, 24, 32, 40]


def test_a_memory_begins_anew_with_every_episode(scorer, episodes):
    novelty = scorer("tests.score.user_reward:Novel")
    first, _, again = [novelty.values(episode) for episode in (*episodes[:2], episodes[0])]
    assert np.nanmax(first.every_step) > 0
    np.testing.assert_array_equal(first.as_trained, again.as_trained)


def test_other_goals_give_other_values_and_leave_the_own_as_it_was(context, scorer, episodes, trained):
    from dataclasses import replace

    other = replace(trained.goal, frames=trained.goal.frames[::-1].copy())
    context._goals["reach"] = other
    video = scorer("video")
    own, foreign, again = (video.values(episodes[1], task).as_trained[16] for task in ("", "reach", ""))
    assert own == again != foreign


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["vidoe"], "did you mean video"),
        (["video", "video"], "names video more than once"),
        (["none"], "'none' adds no reward"),
    ],
)
def test_names_that_cannot_be_are_a_sentence(config, names, text):
    with pytest.raises(UserError, match=text):
        make_scorers(names, lambda method: config)


def test_a_class_that_is_not_there_is_a_sentence(scorer):
    with pytest.raises(UserError, match="Brightnes"):
        scorer("tests.score.user_reward:Brightnes")


def test_a_windows_reward_stands_until_the_next_ones():
    from genreward_jax.score.scorers import _held

    nan = np.nan
    np.testing.assert_array_equal(_held(np.array([nan, nan, 1.0, nan, 3.0, nan])), [nan, nan, 1, 1, 3, 3])
    np.testing.assert_array_equal(_held(np.full(3, nan)), np.full(3, nan))
