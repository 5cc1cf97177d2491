"""The reward in plain Python, with the shipped models in their real process."""

import pickle

import numpy as np
import pytest

from genreward_jax.config import read_yaml
from genreward_jax.errors import UserError
from genreward_jax.library import GenReward
from genreward_jax.video import fit, write_video
from genreward_jax.windows import sample_indices
from torch_bridge.client import Bridge, BridgeError, BridgeSpec

PROMPT = "a bright square moves to the right"
ALL = {"encode_video", "embed_image", "embed_text", "embed_state"}


def moving(count=24, height=64, width=64, seed=0):
    """A square that crosses a textured ground."""
    ground = np.random.default_rng(seed).integers(0, 120, (height, width, 3), dtype=np.uint8)
    frames = np.repeat(ground[None], count, 0)
    for i, frame in enumerate(frames):
        left = i * (width - 12) // count
        frame[height // 3 : height // 3 + 12, left : left + 12] = 250
    return frames


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENREWARD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def bridge():
    with Bridge(BridgeSpec(), ALL, on_event=print) as bridge:
        yield bridge


@pytest.fixture(scope="module")
def reward(bridge):
    return GenReward(moving(), bridge, prompt=PROMPT)


def plain(bridge, frames, goal, baseline="none"):
    """Eq. 3 to 5 by hand."""
    encode = lambda video: bridge.call("encode_video", video).result(120).astype(np.float64).ravel()
    cosine = lambda a, b: a @ b / np.sqrt((a @ a) * (b @ b))
    target = encode(goal.frames)
    value = cosine(encode(fit(frames[sample_indices(len(frames), 16)], 64)), target)
    if baseline == "none":
        return value
    still = cosine(encode(np.repeat(goal.frames[:1], 16, 0)), target)
    return np.clip((value - still) / (1 - still), 0, 1)


@pytest.mark.parametrize("shape", [(40, 64, 64), (16, 48, 96), (5, 128, 100), (1, 33, 64)])
def test_a_window_of_any_size_is_equation_5(reward, bridge, shape):
    window = moving(*shape, seed=1)
    value = reward(window)
    assert type(value) is float and 0 < value < 1
    assert value == pytest.approx(plain(bridge, window, reward.goal), abs=1e-6)
    assert reward(list(window)) == pytest.approx(value, abs=1e-9)  # a list of frames is a window too
    assert reward(moving()) == pytest.approx(1, abs=1e-6)  # the goal video itself


def test_a_batch_is_its_windows(reward):
    windows = [moving(20, seed=2), moving(7, 80, 50, seed=3), moving(16, seed=4)[::-1]]
    values = reward(windows)
    assert values.shape == (3,) and values.dtype == np.float64
    np.testing.assert_allclose(values, [reward(window) for window in windows], atol=1e-6)
    stacked = np.stack([moving(9, seed=5), moving(9, seed=6)])
    np.testing.assert_allclose(reward(stacked), [reward(window) for window in stacked], atol=1e-6)


def test_several_rewards_by_name_with_what_they_read(reward, bridge):
    """One's own class beside r_video, with the baseline taken off; r_video of another goal is left alone."""
    before = reward(moving(seed=7))
    rewards = {"video": "video", "sum": "tests.toy_env:Actions", "end": {"class": "tests.toy_env:AtEnd", "weight": 2}}
    both = GenReward(moving(seed=9), bridge, rewards=rewards, prompt=PROMPT, baseline="still", alpha=0.5)
    assert [(term.name, term.weight) for term in both.terms] == [("video", 0.5), ("sum", 1.0), ("end", 2.0)]
    window = moving(12, seed=9)
    values = both(window, actions=np.full((12, 2), 0.5), env_rewards=np.arange(12), ended=True, step=99)
    assert values["video"] == pytest.approx(plain(bridge, window, both.goal, "still"), abs=1e-6)
    assert values["sum"] == 12 + 66 and values["end"] == 99
    values = both([window, window[:5]], actions=[np.ones((12, 1)), np.ones((5, 1))], step=[12, 5])
    np.testing.assert_array_equal(values["sum"], [12, 5])
    assert reward(moving(seed=7)) == pytest.approx(before, abs=1e-9)


def test_goals_of_every_form_are_the_same_goal(reward, bridge, tmp_path):
    write_video(tmp_path / "goal.mp4", moving(), 8, exact=True)
    reward.goal.save(tmp_path / "kept")
    for goal in (str(tmp_path / "goal.mp4"), tmp_path / "goal.mp4", tmp_path / "kept", reward.goal):
        other = GenReward(goal, bridge, prompt=PROMPT)
        np.testing.assert_array_equal(other.goal.frames, reward.goal.frames)
        np.testing.assert_array_equal(other.goal.psi, reward.goal.psi)
        assert other.goal.prompts == (PROMPT,)


def test_a_tasks_goal_is_the_one_that_training_uses(bridge, monkeypatch):
    """Task, source, words and models reach the same function as a run's flags."""
    from genreward_jax import goal_video

    asked = []

    def make(config, say):
        asked.append(config)
        return goal_video.GoalVideo(moving(), 8.0, "made")

    monkeypatch.setattr(goal_video, "goal_video", make)
    for task, prompt in (("drawer-close-v3", ""), ("metaworld_drawer_close", "shut it")):
        made = GenReward(task, bridge, prompt=prompt)
        words = read_yaml("tasks")["drawer_close"]
        assert made.goal.prompts == ((prompt,) if prompt else tuple(words["key_frame"]))
    assert [c.task for c in asked] == ["metaworld_drawer_close"] * 2 and asked[0].goal.source == "generated"
    assert asked[0].model.family == "embedded" and asked[1].goal.prompt == "shut it"
    GenReward("drawer_close", bridge, source="expert", prompt=["it is shut", "closed"])
    assert asked[2].goal.source == "expert" and not asked[2].goal.prompt


def test_a_bridge_that_was_given_stays_open(reward, bridge):
    with GenReward(reward.goal, bridge) as other:
        assert other(moving()) > 0.9
    other.close()
    with pytest.raises(UserError, match="was closed"):
        other(moving())
    assert reward(moving()) > 0.9
    with pytest.raises(UserError, match="cannot go to another process"):
        pickle.dumps(reward)


MISTAKES = {
    "missing file": (("no/such.mp4",), {}, "There is no video at 'no/such.mp4'"),
    "task": (("drawer_colse",), {}, "neither a video file .* did you mean drawer_close"),
    "array": ((np.zeros((4, 64, 64, 3), np.float32),), {"prompt": "x"}, "The goal is float32"),
    "small": ((np.zeros((4, 16, 64, 3), np.uint8),), {"prompt": "x"}, "64x16; both sides must be 32"),
    "prompt": ((moving(4),), {}, "needs prompt="),
    "source": ((moving(4),), {"prompt": "x", "source": "video"}, "generated or expert"),
    "family": ((moving(4), "embeded"), {"prompt": "x"}, "'embeded' is no folder here"),
    "models": ((moving(4), 5), {"prompt": "x"}, "The models are 5"),
    "reward": ((moving(4),), {"rewards": "vidoe"}, "There is no reward 'vidoe': did you mean video"),
    "class": ((moving(4),), {"rewards": "tests.toy_env:Nope"}, "cannot be imported"),
    "no reward": ((moving(4),), {"rewards": "tests.toy_env:Moving"}, "is no reward"),
    "none": ((moving(4),), {"rewards": []}, "The rewards are"),
    "twice": ((moving(4),), {"rewards": ["video", "video"]}, "names twice"),
    "fb": ((moving(4),), {"rewards": "fb"}, "Dreamer agent's own networks"),
    "weight": ((moving(4),), {"alpha": float("inf")}, "finite"),
    "interval": ((moving(4),), {"interval": 0}, "interval is 0"),
    "interval's kind": ((moving(4),), {"interval": "a"}, "interval is a; it must be a whole number"),
    "interval without end": ((moving(4),), {"interval": float("inf")}, "interval is inf"),
    "weight's kind": ((moving(4),), {"alpha": "a"}, "'video' is a; it must be a finite number"),
    "baseline": ((moving(4),), {"baseline": "mean"}, "none or still"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_a_sentence_before_any_model_is_loaded(name, monkeypatch):
    monkeypatch.setattr(Bridge, "start", None)
    arguments, settings, sentence = MISTAKES[name]
    with pytest.raises(UserError, match=sentence):
        GenReward(*arguments, **settings)


@pytest.mark.parametrize(
    "frames", [np.zeros((4, 64, 64, 3)), np.zeros((64, 64, 3), np.uint8), np.zeros((4, 3, 64, 64), np.uint8), [], 3]
)
def test_frames_of_another_kind(reward, frames):
    with pytest.raises(UserError, match="a window is uint8 of shape"):
        reward(frames)


def test_a_goal_that_does_not_fit_and_numbers_that_are_none(reward, bridge):
    with pytest.raises(UserError, match=r"holds \(frames, height, width\) \(16, 64, 64\), but \(8, 64, 64\)"):
        GenReward(reward.goal, bridge, frames=8)
    silent = GenReward(reward.goal, bridge, rewards="tests.toy_env:NotFinite")
    assert np.isnan(silent(moving(), ended=False))  # it pays nothing
    with pytest.raises(UserError, match="gave nan"):
        silent(moving(), ended=True)
    with pytest.raises(UserError, match="1 parts for 2 windows"):
        reward([moving(), moving()], actions=[np.zeros((24, 1))])
    with pytest.raises(BridgeError, match="not started"):
        GenReward(reward.goal, Bridge(BridgeSpec(), ALL))


def test_defaults_are_those_of_training():
    import inspect

    defaults = {name: p.default for name, p in inspect.signature(GenReward).parameters.items()}
    flags = read_yaml("defaults")
    for name in ("alpha", "interval", "frames", "baseline"):
        assert defaults[name] == flags["reward"][name]
    assert defaults["rank"] == flags["goal"]["rank"] and defaults["models"] == flags["model"]["family"]
