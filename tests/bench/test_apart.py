"""Objects in processes of their own: calls, mistakes there, and a process that is killed."""

import os
import signal
import time

import pytest

from genreward_jax.bench.apart import Apart


class Counter:
    def __init__(self, start):
        self.count = int(start)

    def add(self, number):
        self.count += number
        return self.count

    def where(self):
        return os.getpid()

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Meeting:
    def __init__(self, folder, own, other):
        (folder / own).touch()
        patience = time.monotonic() + 60
        while not (folder / other).exists():
            if time.monotonic() > patience:
                raise TimeoutError("nobody came")
            time.sleep(0.05)


def test_an_object_lives_and_ends_in_a_process_of_its_own():
    with Apart(Counter, 3) as counter:
        assert counter.call("add", 4) == 7 and counter.call("add", 1) == 8
        pid = counter.call("where")
        assert pid != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_several_are_made_beside_each_other(tmp_path):
    """Each is made only while the other is being made, too: one after the other neither would ever be."""
    with Apart(Meeting, tmp_path, "a", "b") as one, Apart(Meeting, tmp_path, "b", "a") as other:
        one.wait()
        other.wait()


def test_what_goes_wrong_there_is_said_here():
    with pytest.raises(RuntimeError, match="invalid literal for int"), Apart(Counter, "three") as counter:
        counter.wait()
    with Apart(Counter, 0) as counter:
        with pytest.raises(RuntimeError, match="can only concatenate|unsupported operand"):
            counter.call("add", "x")
    with Apart(Counter, 0) as counter, pytest.raises(RuntimeError, match="exit code -9.*want of memory"):
        counter.call("die")
