"""Item 5 leaves no training run behind, whatever ends it."""

import sys
import time

import psutil
import pytest

from genreward_jax.bench import startup
from genreward_jax.bench.scale import SCALES

# A run that hears no SIGTERM, with a child of its own.
STUBBORN = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(600)
"""


def test_an_interrupted_start_ends_the_run_and_all_that_it_started(tmp_path, monkeypatch):
    pid, sleep = tmp_path / "pid", time.sleep
    monkeypatch.setattr(startup, "GRACE", 0.5)
    monkeypatch.setattr(startup, "command", lambda *a: [sys.executable, "-c", STUBBORN, str(pid)])

    def interrupted(seconds):
        if pid.exists() and pid.read_text():
            raise KeyboardInterrupt
        sleep(seconds)

    monkeypatch.setattr(startup.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        startup.start(SCALES["quick"], [], tmp_path / "cache", tmp_path / "run")
    monkeypatch.undo()
    child = int(pid.read_text())
    for _ in range(100):  # whoever adopts the orphan reaps it
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            return
        sleep(0.1)
    pytest.fail("the run's child is still there")


def test_a_smoke_leaves_the_first_evaluation_out(tmp_path):
    asked = {scale: " ".join(startup.command(SCALES[scale], tmp_path, [])) for scale in ("quick", "default")}
    assert "--eval.first_episodes 0" in asked["quick"] and "first_episodes" not in asked["default"]
