"""Training on Gymnasium environments: numbers alone without rewards, pictures and numbers with the paper's."""

import json
import subprocess
import sys
from pathlib import Path

import elements
import numpy as np
import pytest

from genreward_jax import suites
from genreward_jax.errors import UserError
from genreward_jax.evaluation.policy import Policy
from genreward_jax.video import write_video
from tests.envs.tiny_gym import Square
from tests.test_end_to_end import replay_rows

ROOT = Path(__file__).resolve().parent.parent
# jax.debug: XLA compiles in half the time. deterministic: rows come at once, so that there is something to train on.
SMALL = """--preset smoke --run.log_every 1 --eval.first_episodes 0 --eval.every 0 --eval.episodes 1 --run.plots False
    --run.deterministic True --agent.imag_length 2 --jax.debug True --agent.*layers 1 --agent.*units 8""".split()


def train(logdir, *flags):
    command = [sys.executable, "-m", "genreward_jax", "train", *SMALL, "--logdir", str(logdir), *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def metrics(logdir):
    return {key for line in (logdir / "metrics.jsonl").read_text().splitlines() for key in json.loads(line)}


def test_cartpole_trains_from_its_numbers(tmp_path):
    logdir = tmp_path / "run"
    flags = ["--task", "gym_CartPole-v1", "--method", "none", "--run.steps", "260", "--run.prefill", "100"]
    said = train(logdir, *flags)
    assert "CartPole-v1 (gym), dense reward, at most 500 steps an episode; it sees vector" in said
    assert "success" not in said  # CartPole says nothing of it
    rows = replay_rows(logdir)
    assert rows["vector"].shape[1:] == (4,) and set(np.unique(rows["action"])) == {0, 1} and "image" not in rows
    steps = ~rows["is_first"]
    assert steps.sum() == 260 and (rows["reward"] == steps).all()
    assert {"train/loss/vector", "train/opt/grad_norm", "episode/score"} <= metrics(logdir)
    scores = [json.loads(line) for line in (logdir / "scores.jsonl").read_text().splitlines()]
    evaluated = [line for line in scores if "eval/score" in line][-1]
    assert evaluated["eval/score"] == evaluated["eval/length"] and evaluated["eval/success"] is None


def test_a_policy_takes_what_its_rows_hold():
    """One array or a mapping; checked, with the rest of a row put beside it. The agent here only looks at it."""
    space = elements.Space(np.float32, (4,))

    class Agent:
        obs_space = {"vector": space, **suites.ROW}
        act_space = {"action": elements.Space(np.int32, (), 0, 2)}

        def init_policy(self, envs):
            return 0

        def policy(self, carry, obs, mode):
            assert obs["vector"].dtype == np.float32 and obs["vector"].shape == (1, 4) and mode == "eval"
            return carry + 1, {"action": np.array([int(obs["is_first"][0])])}, {}

    policy = Policy(None, Agent(), 0)
    assert [int(policy.act(np.zeros(4))), int(policy.act({"vector": np.zeros(4)}))] == [1, 0]
    assert int(policy.act({"vector": np.zeros(4), "is_first": True})) == 1
    with pytest.raises(UserError, match="float32 'vector' of"):
        policy.act(np.zeros(3, np.float32))


def test_pictures_and_numbers_with_both_rewards(tmp_path):
    """Discrete actions, a Dict, a picture that is not square, episodes of any length, and the goal from a file."""
    square = Square()
    frames = []
    for square.place in range(13):
        frames.append(square.draw())
    write_video(tmp_path / "goal.mp4", np.stack(frames), 8)
    said = train(
        tmp_path / "run", "--task", "gym_tests.envs.tiny_gym:Square-v0", "--goal.source", str(tmp_path / "goal.mp4"),
        "--run.steps", "180", "--run.prefill", "60", "--reward.interval", "4", "--fb.train_steps", "140",
        "--reward.alpha", "0.5", "--reward.beta", "0.25",
    )  # fmt: skip
    assert "it sees" in said and "obs_place" in said and "RANDOM" not in said
    rows = replay_rows(tmp_path / "run")
    assert rows["image"].shape[1:] == (64, 64, 3) and rows["obs_place"].shape[1:] == (2,)
    assert rows["obs_side"].dtype == np.int32 and rows["action"].dtype == np.int32
    video, fb = np.isfinite(rows["reward_video"]), np.isfinite(rows["reward_fb"])
    assert video.sum() > 20 and fb.sum() > 3 and not (fb & ~video).any()
    want = rows["reward_env"] + 0.5 * np.nan_to_num(rows["reward_video"]) + 0.25 * np.nan_to_num(rows["reward_fb"])
    np.testing.assert_allclose(rows["reward"], want, rtol=1e-5, atol=1e-6)
    assert rows["is_terminal"].any() and (rows["is_last"] | ~rows["is_terminal"]).all()
    assert {"train/loss/image", "train/loss/obs_place", "train/loss/obs_side", "fb/loss", "reward/video_spread",
            "episode/success"} <= metrics(tmp_path / "run")  # fmt: skip
