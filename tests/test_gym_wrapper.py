"""The Gymnasium wrappers with the shipped models: what an agent gets, step by step, and what it must not lose."""

import copy
import pickle
import threading
import warnings
from concurrent.futures import Future
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit

from genreward_jax import gym
from genreward_jax.errors import UserError
from genreward_jax.gym import GenRewardVectorWrapper, GenRewardWrapper
from genreward_jax.library import GenReward
from genreward_jax.rewards.base import Payment
from genreward_jax.windows import sample_indices
from tests.toy_env import Moving

INTERVAL, FRAMES, ALPHA = 8, 4, 0.5
SHORT = {"interval": INTERVAL, "frames": FRAMES, "alpha": ALPHA}


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENREWARD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def goal_video():
    env = Moving()
    frames = [env.reset(seed=5)[0]]
    return np.stack(frames + [env.step(np.ones(1, np.float32))[0] for _ in range(12)])


@pytest.fixture(scope="module")
def reward():
    with GenReward(goal_video(), prompt="a square at the right", **SHORT) as reward:
        yield reward


@pytest.fixture
def others(reward):
    """Makes rewards on the same models."""
    return lambda rewards, **settings: GenReward(reward.goal, reward._bridge, rewards=rewards, **{**SHORT, **settings})


def toy(**settings):
    return gymnasium.make("GenRewardToy-v0", **settings)


def play(env, steps, seed=3, until_done=False):
    """Observations (the reset's first), rewards and infos of random actions."""
    rng = np.random.default_rng(seed)
    rows = [(env.reset(seed=seed)[0], 0.0, False, {})]
    for _ in range(steps):
        observation, paid, terminated, truncated, info = env.step(rng.uniform(-1, 1, 1).astype(np.float32))
        rows.append((observation, paid, terminated or truncated, info))
        if until_done and (terminated or truncated):
            break
    return rows


def test_every_step_is_equation_10(reward):
    """Which steps are paid, with which frames, and how much: against a plain computation; nothing else is changed."""
    inside = RecordEpisodeStatistics(toy())
    env = RecordEpisodeStatistics(GenRewardWrapper(inside, reward), stats_key="shaped")
    rows = play(env, 20)
    bare = play(toy(), 20)
    for t in range(1, 21):
        observation, paid, done, info = rows[t]
        np.testing.assert_array_equal(observation, bare[t][0])
        assert type(paid) is float and (done, info["success"]) == (bare[t][2], bare[t][3]["success"])
        assert info["reward_env"] == bare[t][1] and paid == info["reward_env"] + info["reward_gen"]
        assert info["reward_video_paid"] == (t in (8, 16))
        if t in (8, 16):
            frames = np.stack([row[0] for row in bare[t - INTERVAL + 1 : t + 1]])
            want = reward(frames[sample_indices(INTERVAL, FRAMES)])
            assert info["reward_video"] == pytest.approx(want, abs=1e-6)
            assert info["reward_gen"] == pytest.approx(ALPHA * want, abs=1e-6)
        else:
            assert info["reward_gen"] == info["reward_video"] == 0.0
    assert info["episode"]["r"] == sum(row[1] for row in bare)  # the environment's own return
    assert info["shaped"]["r"] == pytest.approx(sum(row[1] for row in rows))
    assert done and info["episode"]["l"] == 20
    _, paid, _, again = play(env, 8)[-1]  # the rest of the last window does not reach into the next episode
    assert again["reward_video"] == rows[8][3]["reward_video"]


def test_gymnasiums_own_checks_pass_and_the_specification_rebuilds_it(reward, tmp_path):
    """Wrappers of equal arguments share one set of models, which ends with the last of them."""
    reward.goal.save(tmp_path / "goal")
    settings = {**SHORT, "interval": 1, "rewards": ["video", "tests.toy_env:Actions"]}
    env = GenRewardWrapper(toy(render_mode="rgb_array"), tmp_path / "goal", frame_from="render", **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "(?s).*is different from the unwrapped version")  # said of any wrapper
        check_env(env)
    spec = gymnasium.envs.registration.EnvSpec.from_json(env.spec.to_json())
    assert spec.additional_wrappers[-1].kwargs["interval"] == 1
    again = gymnasium.make(spec)
    assert isinstance(again, GenRewardWrapper) and again.gen_reward is env.gen_reward
    assert play(again, 3)[-1][1] == play(env, 3)[-1][1]
    env.close()
    env.close()
    assert play(again, 3)  # still open
    again.close()
    assert not gym._SHARED
    with pytest.raises(UserError, match="was closed"):
        play(again, 3)


def test_a_running_bridge_can_be_given_and_is_recorded_inside_its_reward(reward):
    env = RecordEpisodeStatistics(GenRewardWrapper(toy(), reward.goal, reward._bridge, **SHORT))
    recorded = env.spec.additional_wrappers[-2].kwargs["goal"]
    assert recorded is env.env.gen_reward and recorded._bridge is reward._bridge
    want = play(GenRewardWrapper(toy(), reward), 8)[-1][1]
    assert play(env, 8)[-1][1] == pytest.approx(want, abs=1e-6)
    env.close()
    assert reward(goal_video()) > 0.9  # the bridge is open


def test_only_the_frames_of_the_window_under_way_are_kept_and_drawn(reward):
    base = Moving(view="vector", render_mode="rgb_array")
    env = GenRewardWrapper(TimeLimit(base, 50), reward)
    env.reset(seed=0)
    shaper, most = env._stepper.shaper, 0
    for _ in range(50):
        env.step(np.ones(1, np.float32))
        held = shaper.workers[0].collectors[0].frames
        most = max(most, len(held))
        assert all(frame.shape == (64, 64, 3) and frame.base.nbytes == frame.nbytes for frame in held.values())
        assert not shaper.workers[0].pending and "image" not in shaper.workers[0].previous
        assert not env._stepper._looks  # which would keep an observation
    assert most <= FRAMES and base.drawn == 6 * FRAMES + 1  # six windows, and the first frame of the seventh


@pytest.mark.parametrize(
    "view, render_mode, frame_from",
    [
        ("dict", None, "auto"),
        ("dict", "rgb_array", "camera"),
        ("vector", "rgb_array", "auto"),
        ("float", None, lambda observation: np.round(observation * 255).astype(np.uint8)),
    ],
)
def test_pictures_are_found_wherever_they_are(reward, view, render_mode, frame_from):
    want = play(GenRewardWrapper(Moving(), reward), 8)[-1][3]["reward_video"]
    env = GenRewardWrapper(Moving(view=view, render_mode=render_mode), reward, frame_from=frame_from)
    assert play(env, 8)[-1][3]["reward_video"] == pytest.approx(want, abs=1e-6)


def test_ones_own_rewards_see_actions_rows_and_the_end(others):
    env = GenRewardWrapper(toy(), others({"sum": "tests.toy_env:Actions", "end": "tests.toy_env:AtEnd"}))
    rng = np.random.default_rng(3)
    actions = np.concatenate([rng.uniform(-1, 1, 1).astype(np.float32) for _ in range(20)])
    rows = play(env, 20)
    own = np.array([row[3].get("reward_env", 0) for row in rows])
    assert rows[16][3]["reward_sum"] == pytest.approx(actions[8:16].sum() + own[9:17].sum(), rel=1e-5)
    assert [t for t in range(1, 21) if rows[t][3]["reward_end_paid"]] == [20] and rows[20][3]["reward_end"] == 20
    watched = GenRewardWrapper(toy(), others("tests.toy_env:Watching"))
    rows = play(watched, 8)
    fitted = [watched.gen_reward.fit(row[0]).mean() for row in rows[:8]]
    assert rows[8][3]["reward_Watching"] == pytest.approx(np.mean(fitted), rel=1e-5)


# --- vector environments ---

LENGTHS = (11, 20, 9)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("view", ["image", "dict"])
def test_the_vector_twin_gives_what_single_wrappers_give(reward, mode, view):
    makers = [partial(Moving, ends_at=length, view=view) for length in LENGTHS]
    twin = GenRewardVectorWrapper(SyncVectorEnv(makers, autoreset_mode=mode), reward)
    single = [partial(lambda make: GenRewardWrapper(make(), reward), make) for make in makers]
    singles = SyncVectorEnv(single, autoreset_mode=mode)
    rng, paid = np.random.default_rng(0), 0
    twin.reset(seed=1), singles.reset(seed=1)
    for _ in range(30):
        action = rng.uniform(-1, 1, (3, 1)).astype(np.float32)
        got, want = twin.step(action), singles.step(action)
        np.testing.assert_allclose(got[1], want[1], atol=1e-6)
        np.testing.assert_array_equal(got[2], want[2])
        same_infos(got[4], want[4])
        if mode == AutoresetMode.SAME_STEP:  # beside what Gymnasium has: where every reward comes from
            np.testing.assert_array_equal(got[1], got[4]["reward_env"] + got[4]["reward_gen"])
        paid += got[4]["reward_video_paid"].sum() if "reward_video_paid" in got[4] else 0
        if mode == AutoresetMode.DISABLED and got[2].any():
            for envs in (twin, singles):
                envs.reset(options={"reset_mask": got[2].copy()})
    assert paid == (8 if mode == AutoresetMode.NEXT_STEP else 9)  # a step that only resets is none of the episode's


def same_infos(got, want):
    """All that Gymnasium's own arrays hold stands in the twin's, in the places that the masks name."""
    for key in want:
        if key.startswith("_"):
            assert not (want[key] & ~got[key]).any()
        elif isinstance(want[key], dict):
            same_infos(got[key], want[key])
        elif key != "final_obs":
            mask = want[f"_{key}"]
            assert got[key].dtype == want[key].dtype
            np.testing.assert_allclose(got[key][mask], want[key][mask], atol=1e-6)


def test_windows_that_are_due_together_are_asked_together(reward, monkeypatch):
    """Each answer comes only when all have asked; one after the other would wait in vain."""
    asked: list[Future] = []

    def pay(name, window):
        asked.append(Future())
        if len(asked) == 3:
            [future.set_result(Payment([1.0])) for future in asked]
        threading.Timer(20, asked[-1].cancel).start()
        return asked[-1]

    envs = GenRewardVectorWrapper(SyncVectorEnv([Moving] * 3), reward)
    monkeypatch.setattr(envs._stepper.shaper, "pay", pay)
    envs.reset(seed=0)
    for _ in range(INTERVAL):
        infos = envs.step(np.zeros((3, 1), np.float32))[4]
    np.testing.assert_array_equal(infos["reward_video"], [1.0, 1.0, 1.0])


def test_drawn_frames_of_vector_environments(reward):
    makers = [partial(Moving, view="vector", render_mode="rgb_array")] * 2
    envs = GenRewardVectorWrapper(SyncVectorEnv(makers), reward)
    envs.reset(seed=3)
    for _ in range(INTERVAL):
        infos = envs.step(np.zeros((2, 1), np.float32))[4]
    assert [env.drawn for env in envs.env.envs] == [FRAMES] * 2
    plain = GenRewardWrapper(Moving(), reward)
    plain.reset(seed=4)
    for _ in range(INTERVAL):
        info = plain.step(np.zeros(1, np.float32))[4]
    assert infos["reward_video"][1] == pytest.approx(info["reward_video"], abs=1e-6)
    with pytest.raises(UserError, match="shows the next episode"):
        GenRewardVectorWrapper(SyncVectorEnv(makers, autoreset_mode="SameStep"), reward)


def test_it_goes_to_other_processes_as_its_goal_and_its_family(reward):
    """A forked process has no thread of the bridge: it starts its own models. A copy is the same; a pickle another."""
    envs = AsyncVectorEnv([lambda: GenRewardWrapper(Moving(), reward)], context="fork")
    envs.reset(seed=3)
    here = GenRewardWrapper(Moving(), reward)
    here.reset(seed=3)
    for _ in range(INTERVAL):
        infos, info = envs.step(np.ones((1, 1), np.float32))[4], here.step(np.ones(1, np.float32))[4]
    envs.close()
    assert infos["reward_video_paid"][0]
    assert infos["reward_video"][0] == pytest.approx(info["reward_video"], abs=1e-6)
    assert copy.deepcopy({"a": reward})["a"] is reward
    _, arguments = reward.__reduce__()
    goal, models, settings = pickle.loads(pickle.dumps(arguments))
    np.testing.assert_array_equal(goal.frames, reward.goal.frames)
    assert models == "embedded" and settings["alpha"] == ALPHA and settings["interval"] == INTERVAL


# --- mistakes ---


class Odd(Moving):
    """Rewards that are none."""

    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, self.odd, *rest


@pytest.mark.parametrize("odd", [float("nan"), None])
def test_an_environment_whose_reward_is_no_number(reward, odd):
    env = GenRewardWrapper(Odd(), reward)
    env.unwrapped.odd = odd
    env.reset(seed=0)
    with pytest.raises(UserError, match="must be a finite number"):
        env.step(np.zeros(1, np.float32))


def test_a_reward_that_is_not_finite_and_one_that_pays_nothing(others):
    env = GenRewardWrapper(toy(), others("tests.toy_env:NotFinite", interval=4))
    env.reset(seed=0)
    for _ in range(19):
        paid, info = env.step(np.zeros(1, np.float32))[1::3]
        assert paid == info["reward_env"] and not info["reward_NotFinite_paid"]
    with pytest.raises(UserError, match="gave nan"):
        env.step(np.zeros(1, np.float32))


MISTAKES = {
    "no image": (Moving("vector"), {}, r"no image in observations of float32 \(2,\)"),
    "float image": (
        Moving("float"),
        {"frame_from": "observation"},
        r"frame_from='observation'.* float32 \(48, 64, 3\)",
    ),
    "key": (Moving("dict"), {"frame_from": "camrea"}, "camera: uint8"),
    "render": (Moving(), {"frame_from": "render"}, "render_mode is None"),
    "settings": (Moving(), {"alpha": 1.0}, "give it alpha and not the wrapper"),
    "no environment": (5, {}, "Expected env to be a `gymnasium.Env`"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_a_sentence(reward, name):
    env, settings, sentence = MISTAKES[name]
    with pytest.raises(TypeError if name == "no environment" else UserError, match=sentence):
        GenRewardWrapper(env, reward, **settings)


def test_what_turns_out_in_a_step_is_a_sentence_too(reward):
    env = GenRewardWrapper(Moving(), reward, frame_from=lambda observation: observation[..., 0])
    with pytest.raises(UserError, match=r"The frame is uint8 of shape \(48, 64\)"):
        play(env, 1)
    with pytest.raises(UserError, match="info has 'reward_env' already"):
        play(GenRewardWrapper(GenRewardWrapper(Moving(), reward), reward), 1)


# --- Meta-World ---


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Meta-World's observation leaves its own space at the reset
def test_meta_world_looks_as_in_training(reward):
    """The wrapper's picture of a state is the training environment's, upright and from the field's place."""
    import metaworld  # noqa: F401

    from genreward_jax.envs.gym_view import MetaWorldView
    from genreward_jax.envs.metaworld import MetaWorld

    made = gymnasium.make("Meta-World/MT1", env_name="shelf-place-v3", seed=1, max_episode_steps=30)
    env = GenRewardWrapper(MetaWorldView(made, quality="fast"), reward)
    env.reset(seed=0)
    rng, paid = np.random.default_rng(0), []
    for _ in range(20):
        step = env.step(rng.uniform(-1, 1, 4).astype(np.float32))
        paid.append(step[4]["reward_video_paid"])
        assert type(step[1]) is float and "success" in step[4] and "obj_to_target" in step[4]
    assert [t + 1 for t in range(20) if paid[t]] == [8, 16]
    ours, theirs = MetaWorld("shelf_place", quality="fast"), env.unwrapped
    ours.step({"reset": True})
    for part, names in (("model", ("body_pos", "site_pos")), ("data", ("qpos", "mocap_pos", "mocap_quat"))):
        for name in names:
            getattr(getattr(ours.simulator, part), name)[:] = getattr(getattr(theirs, part), name)
    ours.simulator._target_pos = theirs._target_pos.copy()
    ours._scene.update()
    np.testing.assert_array_equal(env.render(), ours._scene.draw(64, 64))
    ours.close()
    env.close()
    with pytest.raises(UserError, match="no Meta-World environment"):
        MetaWorldView(Moving())
