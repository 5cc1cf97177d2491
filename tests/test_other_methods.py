"""Other papers' rewards in real runs: one paid at an episode's end, one at every fourth step with a memory, resumed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from tests.test_end_to_end import replay_rows

ROOT = Path(__file__).resolve().parent.parent
# Random actions throughout: what an agent makes of a reward is not asked here.
FLAGS = """
    --preset smoke --task metaworld_drawer_close --run.prefill 1000 --env.metaworld.length 32 --eval.every 0
    --env.metaworld.reward sparse --run.save_every 1000 --reward.weight 0.5
""".split()


def train(logdir, method, steps, *more):
    command = [sys.executable, "-m", "genreward_jax", "train", *FLAGS, "--method", method, "--logdir", str(logdir)]
    done = subprocess.run(
        [*command, "--run.steps", str(steps), *more], cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def steps_since_reset(rows):
    step = np.zeros(len(rows["reward"]), int)
    for t in range(1, len(step)):
        step[t] = 0 if rows["is_first"][t] else step[t - 1] + 1
    return step


def test_roboclip_is_paid_once_an_episode_for_all_of_it(tmp_path):
    """Its value again, from the rows' images by the models themselves."""
    import torch

    from genreward_jax.windows import sample_indices
    from torch_bridge.models import ModelSet

    train(tmp_path / "run", "roboclip", 100)
    rows = replay_rows(tmp_path / "run")
    paid = np.isfinite(rows["reward_roboclip"])
    np.testing.assert_array_equal(paid, rows["is_last"])
    want = rows["reward_env"] + 0.5 * np.nan_to_num(rows["reward_roboclip"])
    np.testing.assert_allclose(rows["reward"], want, rtol=1e-5)
    torch.set_num_threads(1)
    models = ModelSet("embedded", ("embed_video", "embed_video_text"), device="cpu")
    prompts = json.loads((tmp_path / "run" / "goal" / "goal.json").read_text())["prompts"]
    aim = models.call("embed_video_text", prompts).mean(0)
    for end in np.flatnonzero(paid)[:2]:
        frames = rows["image"][end - 31 : end + 1][sample_indices(32, 32)]
        np.testing.assert_allclose(
            rows["reward_roboclip"][end], models.call("embed_video", frames[None])[0] @ aim, rtol=1e-4
        )


def test_diffusion_reward_keeps_its_memory_over_a_resume(tmp_path):
    """Paid at every fourth step; the bonus's networks and the running moments are in the checkpoint."""
    run = tmp_path / "run"
    short = ("--env.metaworld.length", "16")
    train(run, "diffusion_reward", 36, *short)

    def memory():
        """Rows that its moments and updates that its bonus have seen, as the last checkpoint holds them."""
        folder = run / "checkpoint" / (run / "checkpoint" / "latest").read_text().strip()
        kept = {key: value for file in folder.rglob("*.safetensors") for key, value in load_file(file).items()}
        (count,) = [value for key, value in kept.items() if "rewards_count" in key]
        (updates,) = [value for key, value in kept.items() if key.endswith("diffusion/updates")]
        return int(count), int(updates)

    first = memory()
    assert "continued at step 36" in train(run, "diffusion_reward", 68, *short)
    second = memory()
    rows = replay_rows(run)
    step = steps_since_reset(rows)
    np.testing.assert_array_equal(np.isfinite(rows["reward_diffusion"]), (step > 0) & (step % 4 == 0))
    assert first == (4 + 4 + 1, (36 + 3) // 32)  # episodes of 16 steps, each with a row for its reset
    assert second[1] == len(step) // 32 == 2 and second[0] >= first[0] + 7
