"""The examples as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

from genreward_jax.video import write_video
from tests.test_gym_wrapper import goal_video

ROOT = Path(__file__).resolve().parent.parent


def test_stable_baselines_trains_on_it(tmp_path):
    """Somebody else's agent, some hundred steps from pixels, with the models in their own process."""
    write_video(tmp_path / "goal.mp4", goal_video(), 8, exact=True)
    example = ROOT / "examples" / "sb3_ppo.py"
    assert len(example.read_text().splitlines()) < 40
    flags = f"--task drawer_close --goal {tmp_path / 'goal.mp4'} --steps 256 --length 64 --interval 16"
    done = subprocess.run(
        [sys.executable, str(example), *flags.split()],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GENREWARD_CACHE": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ep_rew_mean" in done.stdout and "Traceback" not in done.stderr
    assert [line for line in done.stdout.splitlines() if "total_timesteps" in line][-1].split("|")[2].strip() == "256"
