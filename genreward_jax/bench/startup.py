"""Item 5: from the command to the first environment step and to the first train step, with caches empty and full."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from genreward_jax.bench import floor
from genreward_jax.bench.figures import Figure, Item, Ratio
from genreward_jax.bench.scale import TASK, Scale

GOAL = 15.0  # seconds to the first environment step, warm, on 2 cores
PATIENCE = 1800.0  # seconds until the first train step
GRACE = 20.0  # seconds that a run has to end by itself
ROOT = Path(__file__).resolve().parents[2]


def command(scale: Scale, logdir: Path, flags: list[str]) -> list[str]:
    """``make train`` in a checkout that is set up, the program itself elsewhere."""
    more = ["--run.progress", "False", "--run.plots", "False", *flags]
    more += ["--eval.first_episodes", "0"] if scale.name == "quick" else []
    if (ROOT / "Makefile").exists() and shutil.which("make") and (ROOT / ".venv").exists():
        task = TASK.removeprefix("metaworld_")
        values = {"TASK": task, "PRESET": scale.preset, "LOGDIR": str(logdir), "FLAGS": " ".join(more)}
        return ["make", "-s", "-C", str(ROOT), "train", *[f"{name}={value}" for name, value in values.items()]]
    argv = ["--task", TASK, "--preset", scale.preset, "--logdir", str(logdir)]
    return [sys.executable, "-m", "genreward_jax", "train", *argv, *more]


def start(scale: Scale, flags: list[str], cache: Path, logdir: Path) -> dict[str, float]:
    """Starts a run, waits for its first train step, stops it: seconds from the command to each mark.

    Whatever happens here, Ctrl-C included, the run and all that it started have ended when this returns.

    Raises:
        RuntimeError: It ended before, with the end of what it said.
    """
    environment = {**os.environ, "GENREWARD_CACHE": str(cache)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    said = logdir.with_suffix(".log")
    with said.open("w") as log:
        begun = time.time()
        process = subprocess.Popen(
            command(scale, logdir, flags), stdout=log, stderr=log, env=environment, start_new_session=True
        )
        marks = logdir / "startup.json"
        try:
            while not marks.exists() and process.poll() is None and time.time() - begun < PATIENCE:
                time.sleep(0.05)
        finally:
            _end(process)
    if not marks.exists():
        raise RuntimeError(f"the run never trained: {said.read_text()[-800:]}")
    found = json.loads(marks.read_text())
    return {name: found["began"] - begun + seconds for name, seconds in found["seconds"].items()}


def _end(process: subprocess.Popen) -> None:
    """Asks a process and all of its session to end, and kills what has not after some seconds or at another Ctrl-C."""
    try:
        _signal(process, signal.SIGTERM)
    finally:
        _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen, sign: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # nobody of that session is left
        os.killpg(process.pid, sign)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)


def measure(scale: Scale, flags: list[str], say: Callable[[str], None], out: Path) -> Item:
    """Seconds to the first environment step, and from a filled replay to the first train step, cold and warm."""
    item = Item("from `make train` to the first steps")
    with tempfile.TemporaryDirectory(prefix="genreward-bench-") as scratch:
        folder = Path(scratch)
        starts = []
        for number in range(1 + scale.starts):
            say("a start with empty caches" if number == 0 else f"warm start {number} of {scale.starts}")
            starts.append(start(scale, flags, folder / "cache", folder / f"run{number}"))
        size = sum(path.stat().st_size for path in (folder / "cache").rglob("*") if path.is_file())
    cold, warm = starts[:1], starts[1:]
    weights = sum(path.stat().st_size for path in (ROOT / "torch_bridge" / "weights").rglob("*.safetensors"))
    item.figures.append(_floor(size + weights, scale))
    for name, marks in (("empty caches", cold), ("warm", warm)):
        item.figures.append(Figure(f"{name}: to the first environment step", "s", [one["step"] for one in marks]))
        waits = [max(0.0, one["train_step"] - one["filled"]) for one in marks]
        item.figures.append(Figure(f"{name}: from a filled replay to the first train step", "s", waits))
        item.figures.append(Figure(f"{name}: to the first train step", "s", [one["train_step"] for one in marks]))
    ratio = [GOAL / one["step"] for one in warm]
    item.figures.append(Ratio(f"warm: {GOAL:g} s by the time to the first environment step", "", ratio, goal=1.0))
    for mark in ("imports", "agent", "goal_and_models", "evaluation"):
        item.figures.append(Figure(f"warm: until '{mark}' is done", "s", [one[mark] for one in warm if mark in one]))
    item.figures.append(Figure("compiled programs and goals kept in the cache folder", "MB", [size / 1e6]))
    item.notes.append("its floor is moving models and compiled programs once; a start is Python importing and tracing")
    if scale.name != "quick":
        item.notes.append("the step-0 evaluation of one episode comes before the first environment step and is in it")
    return item


def _floor(moved: float, scale: Scale) -> Figure:
    copying = floor.copying(**(floor.QUICK_COPY if scale.name == "quick" else {}))
    return floor.Best(float("inf"), copying).figure("warm", 0.0, moved, "s")
