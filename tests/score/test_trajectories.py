"""The scored set: what the environment of a run would give for the same actions, drawn once, and on whose seeds."""

import numpy as np
import pytest

from genreward_jax import config as config_lib
from genreward_jax import parts
from genreward_jax.envs.frame_slots import FrameSlots
from genreward_jax.rewards.base import Schedule
from genreward_jax.score import trajectories as lib
from genreward_jax.video import read_frames

FLAGS = "--preset cpu --task metaworld_door_close --env.metaworld.quality fast --env.metaworld.length 24"
BEHAVIOURS = ("expert", "stop50", "random")


@pytest.fixture(scope="module")
def config():
    return config_lib.parse(f"{FLAGS} --env.metaworld.reward sparse --env.metaworld.sparse_every 8".split())


@pytest.fixture(scope="module")
def made(config, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENREWARD_CACHE", str(tmp_path_factory.mktemp("cache")))
        said = []
        yield lib.make_set(config, 2, said.append, BEHAVIOURS), said, lib.cache_dir("score")


def test_rows_are_those_of_the_run_s_own_environment(config, made):
    """Frames, rewards and success to the bit: what is scored is what the agent would have received."""
    trajectory = next(t for t in made[0] if t.behaviour == "stop50" and t.seed == lib.SEED + 1)
    env = parts.make_env(config, 0, seed=trajectory.seed)
    row = env.step({"reset": True, "action": np.zeros(4, np.float32)})
    for t, action in enumerate(trajectory.actions):
        np.testing.assert_array_equal(trajectory.frames[t], row["image"])
        assert (trajectory.rewards[t], trajectory.success[t]) == (row["reward"], row["log/success"] > 0)
        assert bool(row["is_last"]) == (t == trajectory.length)
        if t < trajectory.length:
            row = env.step({"reset": False, "action": action})
    env.close()
    assert trajectory.length == 24 and np.flatnonzero(trajectory.rewards).tolist() == [8, 16, 24]
    assert trajectory.frames.dtype == np.uint8 and trajectory.actions.dtype == trajectory.rewards.dtype == np.float32


def test_behaviours_share_their_scenes_and_part_where_one_gives_up(made):
    expert, stopped, other = (
        next(t for t in made[0] if (t.behaviour, t.seed) == (behaviour, lib.SEED))
        for behaviour in ("expert", "stop50", "random")
    )
    same = [np.array_equal(a, b) for a, b in zip(expert.actions, stopped.actions, strict=True)]
    assert same.index(False) == round(0.5 * (expert.success_step if expert.success_step > 0 else 24 // 2))
    np.testing.assert_array_equal(expert.frames[0], other.frames[0])
    assert (expert.actions[0] != other.actions[0]).all() and not expert.actions[-1].any()
    assert [t.behaviour for t in made[0]] == ["expert", "expert", "stop50", "stop50", "random", "random"]


def test_a_set_is_drawn_once_and_grows_by_what_is_missing(config, made):
    first, said, folder = made
    assert len(said) == 1 and "6 episodes of 24 steps" in said[0]
    more = lib.make_set(config, 3, said.append, BEHAVIOURS)
    assert len(said) == 2 and "3 episodes" in said[1]
    assert len(more) == 9 and len(list(folder.iterdir())) == 1
    for trajectory in first:
        again = next(t for t in more if (t.behaviour, t.seed) == (trajectory.behaviour, trajectory.seed))
        np.testing.assert_array_equal(again.frames, trajectory.frames)
        np.testing.assert_array_equal(again.actions, trajectory.actions)
    other = config.update({"env.metaworld.camera": "corner"})
    assert lib._digest(lib.env_settings(other), BEHAVIOURS) not in next(folder.iterdir()).name


def test_large_frames_are_those_that_training_draws_for_its_reward(config, tmp_path, monkeypatch):
    """Through the slots of shared memory in which a run's environment leaves them, at every step and the reset."""
    monkeypatch.setenv("GENREWARD_CACHE", str(tmp_path))
    (made,) = lib.make_set(config.update({"env.metaworld.length": 6}), 1, lambda text: None, ("random",), 96)
    slots = FrameSlots.create(96, 2)
    more = {"frame_size": 96, "frame_schedules": (Schedule(recent=2),), "frame_slots": slots.name, "length": 6}
    env = parts.make_env(config, 0, seed=made.seed, **more)
    row, large = env.step({"reset": True, "action": np.zeros(4, np.float32)}), read_frames(made.large)
    np.testing.assert_array_equal(large[0], slots.take(int(row["frame_slot"])))
    for t in range(made.length):
        row = env.step({"reset": False, "action": made.actions[t]})
        np.testing.assert_array_equal(large[t + 1], slots.take(int(row["frame_slot"])))
        np.testing.assert_array_equal(made.frames[t + 1], row["image"])
    env.close()
    slots.close()
    slots.unlink()
    assert large.shape == (7, 96, 96, 3) and large[0].any()


def test_fb_never_trains_on_scored_seeds():
    scored = set(range(lib.SEED, lib.SEED + 50_000))
    assert not scored & {*range(lib.FB_SEED, lib.FB_SEED + lib.FB_RANDOM)}
    assert not scored & {*range(lib.FB_MIXED_SEED, lib.FB_MIXED_SEED + lib.FB_MIXED)}
