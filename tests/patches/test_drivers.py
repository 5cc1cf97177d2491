"""Environments opened beside something else: closed unless they were taken, and no signal or death is waited for."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from dreamerv3_patches.drivers import Ahead


class Opened:
    """Stands in for a driver."""

    closed = False

    def close(self) -> None:
        self.closed = True


def test_what_nobody_takes_is_closed_and_what_is_taken_is_not():
    left, taken = Opened(), Opened()
    with Ahead(lambda: left):
        pass
    with Ahead(lambda: taken) as ahead:
        assert ahead.take() is taken
    assert left.closed and not taken.closed


def test_an_error_of_opening_is_heard_by_who_takes_and_by_nobody_else():
    def fail():
        raise ValueError("no such environment")

    with Ahead(fail):
        pass
    with pytest.raises(ValueError, match="no such environment"):
        Ahead(fail).take()


def test_who_is_interrupted_while_waiting_has_taken_nothing():
    made, ready = Opened(), threading.Event()

    def interrupted(number, frame):
        ready.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupted)
    ahead = Ahead(lambda: ready.wait(30) and made)
    try:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(KeyboardInterrupt):
            ahead.take()
    finally:
        signal.signal(signal.SIGUSR1, before)
    ahead.close()
    assert made.closed


# A trainer that heeds no signal, as ours does not at once, and whose environment's process is starting.
TRAINER = """
import signal
import sys
from functools import partial

class Env:
    act_space = {}

    def close(self):
        pass

if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: print("heard", flush=True))
    import embodied
    from dreamerv3_patches.drivers import Ahead
    ahead = Ahead(partial(embodied.Driver, [Env]))
    print("opening", flush=True)
    try:
        ahead.take().close()
        print("opened", flush=True)
    except RuntimeError as error:
        print(error, flush=True)
"""


@pytest.fixture
def trainer(tmp_path):
    script = tmp_path / "trainer.py"
    script.write_text(TRAINER)
    path = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )
    assert process.stdout.readline() == "opening\n"
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def starting(trainer) -> psutil.Process:
    """Its environment's process, which imports for a second yet."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for child in psutil.Process(trainer.pid).children():
            if "spawn_main" in " ".join(child.cmdline()):
                return child
        time.sleep(0.01)
    raise AssertionError("no environment was started")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_group_does_not_end_an_environment_that_starts(trainer, number):
    starting(trainer)
    os.killpg(trainer.pid, number)
    said, _ = trainer.communicate(timeout=60)
    assert said.split() == ["heard", "opened"] and trainer.returncode == 0


def test_an_environment_that_dies_while_it_starts_is_said(trainer):
    starting(trainer).kill()
    said, _ = trainer.communicate(timeout=60)
    assert "ended while it started, exit code -9" in said
