"""The verb ``score``: its flags, a run's own episodes, networks trained on the spot, and one whole command."""

import json
from types import SimpleNamespace

import elements
import embodied
import numpy as np
import pytest

from genreward_jax import config as config_lib
from genreward_jax.cli import score as verb
from genreward_jax.errors import UserError
from genreward_jax.fb import offline
from genreward_jax.score import forward_backward, runs, scorers, trajectories
from genreward_jax.score.context import Context
from genreward_jax.score.names import with_mixed
from genreward_jax.score.trajectories import Trajectory
from genreward_jax.video import write_video
from tests.other_python import numpy_alone
from tests.score.small import FakeNetworks, episode

LENGTH = 24
FLAGS = (
    "--preset smoke --task metaworld_door_close --env.metaworld.quality fast --env.metaworld.repeat 4 "
    f"--env.metaworld.length {LENGTH} --reward.interval 16 --tasks none"
)


@pytest.fixture
def goal(tmp_path):
    """A file that a goal can be made of."""
    frames = np.random.default_rng(0).integers(0, 255, (17, 64, 64, 3), np.uint8)
    write_video(tmp_path / "goal.mp4", frames, 10)
    return str(tmp_path / "goal.mp4")


def test_a_whole_command_writes_what_was_found(goal, tmp_path, monkeypatch, capsys):
    """The video reward, made-up r_FB and a user's own class, in another interpreter's process, on one seed and on own
    episodes.
    """
    monkeypatch.setenv("GENREWARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(scorers, "networks_for", lambda context, *which: FakeNetworks())
    frames = np.zeros((LENGTH + 1, 64, 64, 3), np.uint8)
    (tmp_path / "mine").mkdir()
    np.savez(tmp_path / "mine" / "dark.npz", frames=frames, actions=np.zeros((LENGTH, 4), np.float32))
    rewards = "video,tests.score.user_reward:Brightness,fb_measure"
    argv = [*FLAGS.split(), "--goal.source", goal, "--rewards", rewards, "--episodes", "1"]
    argv += ["--bridge.python", numpy_alone(tmp_path / "venv")]  # for the user's class: it has none of our packages
    assert verb.run([*argv, "--data", str(tmp_path / "mine"), "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "score.json").read_text())
    assert found["task"] == "door_close" and found["seeds"] == [300_000] and found["commit"]
    assert list(found["rewards"]) == [
        *rewards.split(","),
        "fb_measure_mix",
        "random",
        "constant",
        "ramp",
        "pixels",
        "env",
    ]
    assert [e["behaviour"] for e in found["episodes"]][-2:] == ["random", "given"] and len(found["episodes"]) == 9
    last = found["episodes"][-1]["values"]["tests.score.user_reward:Brightness"]["as_trained"]
    assert [t for t, value in enumerate(last) if value is not None] == [8, 16, 24] and last[8] == 0
    assert found["rewards"]["video"]["cost/as_trained/ms_per_env_step"]["value"] > 0
    assert found["rewards"]["video"]["cost/as_trained/peak_memory_mb"]["value"] > 50
    assert all((tmp_path / "out" / f"score.{ending}").stat().st_size for ending in ("png", "html"))
    said = capsys.readouterr().out
    assert "Drawing 8 episodes of 24 steps" in said and "auc" in said.lower()
    pictures = sorted((tmp_path / "out").glob("actions_*.png"))
    assert [picture.stem for picture in pictures] == ["actions_fb_measure", "actions_fb_measure_mix"]
    assert all(str(picture) in said.splitlines()[-1] for picture in pictures)


def test_a_run_s_settings_lie_under_the_flags(tmp_path):
    run = tmp_path / "run"
    saved = config_lib.parse([*FLAGS.split()[:-2], "--reward.alpha", "0.5", "--method", "genreward_no_fb"])
    old = {key: value for key, value in saved.flat.items() if key != "fb.pessimism"}  # from before that flag
    run.mkdir()
    elements.Config(old).save(str(run / "config.yaml"))
    configs = verb._Configs(["--reward.beta", "7"], str(run))
    config = configs("")
    assert (config.reward.alpha, config.reward.beta, config.env.metaworld.length) == (0.5, 7.0, LENGTH)
    assert (config.method, configs("genreward").method) == ("genreward_no_fb", "genreward")
    assert config.preset == "smoke" and config.fb.pessimism == config_lib.parse([]).fb.pessimism


RUNS_OWN = {
    "goal.source": ["--goal.source", "expert"],
    "task": ["--task", "metaworld_reach"],
    "model.dtype": ["--model.dtype", "bfloat16"],
    "reward.frames": ["--reward.frames", "8"],
    "method": ["--method", "none"],
    "fb.objective": ["--fb.objective", "measure"],
}


@pytest.mark.parametrize("flag", RUNS_OWN)
def test_what_a_run_has_of_its_own_cannot_be_another(flag, tmp_path):
    """Its goal and its networks are in its folder, whatever the flags say."""
    config_lib.parse([*FLAGS.split()[:-2], "--method", "genreward"]).save(str(tmp_path / "config.yaml"))
    with pytest.raises(UserError, match=rf"and these are others: .*{flag}: .* -> .*leave RUN= out"):
        verb._Configs(RUNS_OWN[flag], str(tmp_path))("")
    assert verb._Configs(["--reward.interval", "16"], str(tmp_path))("genreward_plus")


def test_networks_of_one_s_own_can_be_set_where_a_run_has_none(tmp_path):
    config_lib.parse([*FLAGS.split()[:-2], "--method", "none"]).save(str(tmp_path / "config.yaml"))
    assert verb._Configs(["--fb.dim", "64"], str(tmp_path))("").fb.dim == 64


def test_whole_episodes_are_read_from_upstream_s_replay(tmp_path):
    """Two environments, chunks that end inside episodes, one episode cut off: whole ones come back as they went in."""
    replay = embodied.replay.Replay(
        length=2, capacity=1000, chunksize=7, directory=elements.Path(str(tmp_path / "replay")), save_wait=True
    )
    rng, stored = np.random.default_rng(0), {0: [], 1: []}
    for worker, lengths in ((0, (9, 12, 4)), (1, (11, 5))):
        for length in lengths:
            stored[worker].append([])
            for t in range(length):
                row = {
                    "image": rng.integers(0, 255, (4, 4, 3), np.uint8),
                    "action": rng.normal(size=4).astype(np.float32),
                    "reward": np.float32(99),
                    "reward_env": np.float32(rng.normal() if t else 0),
                    "is_first": np.bool_(t == 0),
                    "is_last": np.bool_(t == length - 1 and length != 4),
                }
                replay.add(row, worker)
                stored[worker][-1].append(row)
    replay.save()
    whole = [episode for worker in stored.values() for episode in worker if len(episode) != 4]
    found = runs.run_episodes(tmp_path, "reach", 10)
    assert sorted(t.length for t in found) == sorted(len(e) - 1 for e in whole)
    for trajectory in found:
        rows = next(e for e in whole if len(e) == trajectory.length + 1)
        np.testing.assert_array_equal(trajectory.frames, [row["image"] for row in rows])
        np.testing.assert_array_equal(trajectory.actions[:-1], [row["action"] for row in rows][:-1])
        np.testing.assert_array_equal(trajectory.rewards, [row["reward_env"] for row in rows])
        assert (trajectory.behaviour, trajectory.task) == ("run", "reach") and not trajectory.actions[-1].any()
    assert [t.seed for t in runs.run_episodes(tmp_path, "reach", 2)] == [0, len(whole) - 1]


class Embedding:
    """In place of the bridge: a frame's features are three of its pixels, repeated."""

    frame_size = 64
    asked = 0

    def describe(self):
        return {"digests": {"dino": "x"}, "pid": 0, "trained": True}

    def call(self, capability, frames):
        self.asked += len(frames)
        return SimpleNamespace(result=lambda: np.tile(frames[:, 0, 0].astype(np.float32), (1, 512)))


def test_frames_that_had_to_be_enlarged_are_named():
    context = Context(config_lib.parse(FLAGS.split()[:-2]), say=lambda text: None)
    context._bridge = Embedding()
    assert context.at_reward_size(episode("expert", 0, size=64)).shape[1] == 64 and context.notes() == []
    assert context.at_reward_size(episode("given", 0, size=80)).shape[1] == 64 and context.notes() == []
    assert context.at_reward_size(episode("run", 0, size=32)).shape[1] == 64
    (note,) = context.notes()
    assert "frames of run episodes" in note and "64 pixels" in note and "enlarged" in note


def walk(seed):
    """A walk along a line; the action is the way that is taken, the frame's first pixel the place."""
    rng = np.random.default_rng(seed)
    actions = np.sign(rng.normal(size=(LENGTH + 1, 1))).astype(np.float32)
    place = np.clip(128 + 8 * np.concatenate([[0], actions[:-1, 0].cumsum()]), 0, 255)
    frames = np.broadcast_to(place[:, None, None, None].astype(np.uint8), (LENGTH + 1, 8, 8, 3)).copy()
    return Trajectory("", "given", seed, frames, actions, np.zeros(LENGTH + 1, np.float32), np.zeros(LENGTH + 1, bool))


def test_networks_are_trained_on_other_episodes_and_features_are_kept(tmp_path, monkeypatch):
    """fb_measure without a run: towards a goal on the right, going right is worth more."""
    monkeypatch.setenv("GENREWARD_CACHE", str(tmp_path))
    monkeypatch.setattr(forward_backward, "UPDATES", 100)
    context = Context(config_lib.parse(FLAGS.split()[:-2]), say=lambda text: None)
    context._bridge = Embedding()
    context.fb_episodes = lambda mixed: [walk(seed) for seed in range(30)]
    shown = lambda place: SimpleNamespace(video=np.full((8, 8, 8, 3), place, np.uint8))
    context._goals = {"": shown(200), "reach": shown(60)}
    networks = forward_backward.networks_for(context, "measure")
    assert networks is forward_backward.networks_for(context, "measure")
    assert "100 updates (measure) on 30 episodes" in networks.about
    asked, episode = context._bridge.asked, walk(100)
    episode.actions[:] = 1
    right = networks.values(episode)
    assert context._bridge.asked == asked + LENGTH + 1
    episode.actions[:] = -1
    assert (right > networks.values(episode)).mean() > 0.7
    np.testing.assert_allclose(networks.at(episode, 7)(np.float32([[1], [-1]]))[0], right[7], rtol=1e-5)
    assert context._bridge.asked == asked + LENGTH + 1  # the same frames: from the cache
    networks.aim("reach")
    left = networks.values(episode)
    episode.actions[:] = 1
    assert (left > networks.values(episode)).mean() > 0.7
    episode.actions = np.zeros((LENGTH + 1, 3), np.float32)
    with pytest.raises(UserError, match="r_FB needs the 1 numbers of each action; those of the given episode 100"):
        networks.values(episode)
    seen = np.concatenate([networks.values(walk(seed), normalised=True)[:-1] for seed in range(30)])
    assert abs(seen.mean()) < 1e-3 and abs(seen.std() - 1) < 1e-3  # over what they were trained on


def test_the_seed_is_the_networks_own(monkeypatch):
    seeds = []
    monkeypatch.setattr(offline, "train", lambda *args, seed, **rest: seeds.append(seed))
    for flags in ([], ["--seed", "7"]):
        context = Context(config_lib.parse([*FLAGS.split()[:-2], *flags]), say=lambda text: None)
        context.fb_episodes, context.embed_all = lambda mixed: [walk(0)], lambda episodes, fb: []
        context.fb_goal = lambda fb: None
        forward_backward.OfflineNetworks(context, "measure", False)
    assert seeds == [0, 7]


def test_a_run_s_networks_are_asked_about_the_row_s_frame(monkeypatch):
    """At the agent's size, with its embedding where F sees that; not where F sees what the rows before have made."""
    space = lambda *shape: SimpleNamespace(shape=shape)
    worth = lambda images, actions, dino: images[:, 0, 0, 0] + actions[:, 0] + (0 if dino is None else dino[:, 0])
    agent = SimpleNamespace(obs_space={"image": space(16, 16, 3)}, act_space={"action": space(1)}, fb_values=worth)
    episode, action = walk(0), np.float32([[0.5], [-0.5]])
    shown = float(episode.frames[3, 0, 0, 0])
    for state, more in (("tokens", 0), ("dino", 1003), ("deter", None)):
        config = config_lib.parse(
            [*FLAGS.split()[:-2], "--fb.objective", "measure", "--fb.forward_state", state, "--fb.dino_every", "0"]
        )
        embed = lambda trajectory, fb: 1000 + np.arange(LENGTH + 1, dtype=np.float32)[:, None]
        networks = forward_backward.RunNetworks(SimpleNamespace(config=config, agent=agent, run="here", embed=embed))
        values = networks.at(episode, 3)
        assert (values is None) == (more is None) and networks.goal == "end"
        if values is not None:
            np.testing.assert_allclose(values(action), shown + more + action[:, 0])


def test_a_run_s_networks_are_taken_for_its_own_objective(monkeypatch):
    """And only for that, and never where training on more than it saw is asked for."""
    made = []
    monkeypatch.setattr(forward_backward, "RunNetworks", lambda context: made.append("run") or object())
    monkeypatch.setattr(forward_backward, "OfflineNetworks", lambda context, *which: made.append(which) or object())
    context = SimpleNamespace(run_objective="paper", networks={})
    for objective, mixed in (("paper", False), ("measure", False), ("paper", True), ("paper", False)):
        forward_backward.networks_for(context, objective, mixed)
    assert made == ["run", ("measure", False), ("paper", True)]
    context = Context(config_lib.parse(["--preset", "smoke", "--method", "genreward"]), "somewhere")
    assert context.run_objective == "paper"
    assert Context(config_lib.parse(["--preset", "smoke", "--method", "none"]), "somewhere").run_objective == ""


def test_networks_that_are_trained_here_have_a_second_row():
    assert with_mixed(["video", "fb_measure"]) == ["video", "fb_measure", "fb_measure_mix"]
    assert with_mixed(["fb_paper", "fb_measure"], "measure") == ["fb_paper", "fb_paper_mix", "fb_measure"]
    assert with_mixed(["fb_measure_mix", "fb_measure"]) == ["fb_measure_mix", "fb_measure"]


MISTAKES = {
    "reward": ("--rewards vidoe", "did you mean video"),
    "no reward": ("--rewards ,", "REWARDS=) is empty"),
    "episodes": ("--episodes 0", "--episodes is 0"),
    "number": ("--episodes two", "write score --task"),
    "run": ("--run nowhere", "There is no run in 'nowhere'"),
    "out": ("--out {file}", "is a file; name a folder"),
    "task": ("--task metaworld_door_clos", "door_close"),
    "suite": ("--task gym_CartPole-v1", "no task 'gym_CartPole-v1'"),
    "flag": ("--goal.sorce x", "did you mean goal.source"),
    "interval": ("--reward.interval 500", "every 500 steps but an episode has 64"),
    "other task": ("--tasks door_open,door_clos", "door_close"),
    "other tasks of one video": ("--goal.source {file} --tasks door_open", "leave one of them out"),
    "data": ("--data {folder}", "name their task (TASK=)"),
    "goal": ("--goal.source {folder}/nowhere.mp4", "nowhere.mp4"),
    "networks for data": (
        "--data {folder} --goal.source {file} --rewards fb_measure",
        "fb_measure_mix (REWARDS=) trains",
    ),
}


def test_episodes_without_actions_are_refused_before_others_are_drawn(goal, tmp_path, monkeypatch):
    monkeypatch.setattr(trajectories, "make_set", None)
    with pytest.raises(UserError, match="r_FB needs the 4 numbers of each action"):
        verb.run([*FLAGS.split(), "--data", str(tmp_path), "--rewards", "fb_measure"])


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_before_anything_is_drawn(name, tmp_path, monkeypatch):
    monkeypatch.setattr(trajectories, "make_set", None)
    (tmp_path / "file").touch()
    flags, text = MISTAKES[name]
    flags = flags.format(file=tmp_path / "file", folder=tmp_path)
    with pytest.raises(UserError) as error:
        verb.run(["--preset", "smoke", *flags.split()])
    assert text in str(error.value) and "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
