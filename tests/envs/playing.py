"""Running a snippet in a Python of its own, and playing an environment for a few steps."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]


def start_python(code: str, *args: str, **environ: str) -> subprocess.Popen:
    """Starts ``python -c code args`` with the checkout on its path."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
        **environ,
    }
    return subprocess.Popen(
        [sys.executable, "-c", code, *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen) -> str:
    """What it printed; fails with its traceback where it failed."""
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return out.strip()


def run_python(code: str, *args: str, **environ: str) -> str:
    return finish(start_python(code, *args, **environ))


def act(values=(0, 0, 0, 0), reset: bool = False) -> dict[str, np.ndarray]:
    return {"action": np.asarray(values, np.float32), "reset": np.bool_(reset)}


def play(env, steps: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """A reset and ``steps`` random actions; the rows."""
    rng = np.random.default_rng(seed)
    rows = [env.step(act(reset=True))]
    rows += [env.step(act(rng.uniform(-1, 1, 4))) for _ in range(steps)]
    return rows


def images(rows: list[dict[str, np.ndarray]]) -> np.ndarray:
    return np.stack([row["image"] for row in rows])


def digest(rows: list[dict[str, np.ndarray]]) -> str:
    """Hash of all values of all rows."""
    import hashlib

    state = hashlib.sha256()
    for row in rows:
        for key in sorted(row):
            state.update(key.encode() + np.ascontiguousarray(row[key]).tobytes())
    return state.hexdigest()
