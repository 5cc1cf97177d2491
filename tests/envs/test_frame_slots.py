"""Frames reach another process whole, slots are given back, and nobody removes the memory too early."""

import threading
import time

import numpy as np
import pytest

from genreward_jax.envs.frame_slots import FrameSlots
from tests.envs.playing import finish, run_python, start_python


@pytest.fixture
def slots():
    made = FrameSlots.create(96, 3)
    yield made
    made.unlink()


def frame(number: int, size: int = 96) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (size, size, 3)).astype(np.uint8)


def test_frames_come_back_as_they_were_and_their_slots_are_free_again(slots):
    numbers = [slots.write(frame(i)) for i in range(3)]
    assert sorted(numbers) == [0, 1, 2] and slots.full == 3
    for i in (1, 0, 2):
        np.testing.assert_array_equal(slots.take(numbers[i]), frame(i))
    assert slots.full == 0
    copy = slots.take(slots.write(frame(4)))
    slots.write(frame(5)), slots.write(frame(6)), slots.write(frame(7))
    np.testing.assert_array_equal(copy, frame(4), err_msg="a taken frame is a copy, later writes do not touch it")


def test_a_full_ring_waits_for_a_free_slot(slots):
    numbers = [slots.write(frame(i)) for i in range(3)]
    timer = threading.Timer(0.2, lambda: slots.take(numbers[1]))
    timer.start()
    started = time.monotonic()
    assert slots.write(frame(9), timeout=10) == numbers[1]
    assert time.monotonic() - started > 0.1
    timer.join()


def test_a_ring_that_stays_full_is_an_error(slots):
    for i in range(3):
        slots.write(frame(i))
    with pytest.raises(RuntimeError, match="none of 3 frame slots became free in 0.05 s"):
        slots.write(frame(9), timeout=0.05)


def test_wrong_slots_and_frames_are_refused(slots):
    with pytest.raises(IndexError):
        slots.take(3)
    with pytest.raises(RuntimeError, match="slot 0 holds no frame"):
        slots.take(0)
    with pytest.raises(ValueError, match="not uint8"):
        slots.write(frame(0, 64))
    with pytest.raises(ValueError, match="not float32"):
        slots.write(frame(0).astype(np.float32))
    with pytest.raises(ValueError, match="are 3 of 96x96, not None of 64x64"):
        FrameSlots.attach(slots.name, 64)
    with pytest.raises(FileNotFoundError):
        FrameSlots.attach("no-such-frame-slots", 64)


def test_an_unneeded_frame_is_given_back_unread(slots):
    slots.free(slots.write(frame(0)))
    assert slots.full == 0
    slots.write(frame(0)), slots.write(frame(0))
    slots.clear()
    assert slots.full == 0


CHILD = """
import sys
from genreward_jax.envs.frame_slots import FrameSlots
from tests.envs.test_frame_slots import frame
slots = FrameSlots.attach(sys.argv[1], 96, 3)
print([slots.write(frame(i)) for i in range(8)])  # more than there are slots: it waits for the reader
slots.close()
"""


def test_another_process_writes_while_this_one_reads(slots):
    process = start_python(CHILD, slots.name)
    deadline = time.monotonic() + 60
    for number in range(8):
        while not slots._state[number % 3]:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.001)
        np.testing.assert_array_equal(slots.take(number % 3), frame(number))
    assert finish(process) == str([i % 3 for i in range(8)])


@pytest.mark.parametrize("ending", ["slots.close()", "sys.exit()", "os.kill(os.getpid(), 9)"])
def test_a_writers_end_leaves_the_memory_to_its_maker_and_says_nothing(slots, ending):
    """Python before 3.13 would have the writer's resource tracker remove it (bpo-38119), and warn of a leak."""
    slots.write(frame(1))
    code = "import os, sys; from genreward_jax.envs.frame_slots import FrameSlots"
    code += f"\nslots = FrameSlots.attach({slots.name!r}); {ending}"
    _, error = start_python(code).communicate(timeout=60)
    assert error == ""
    time.sleep(0.3)  # a resource tracker would act after its process has gone
    again = FrameSlots.attach(slots.name)
    np.testing.assert_array_equal(again.take(0), frame(1))
    again.close()


def test_the_makers_end_is_quiet_and_leaves_nothing():
    code = (
        "from genreward_jax.envs.frame_slots import FrameSlots; import sys\n"
        "made = FrameSlots.create(32, 2); other = FrameSlots.attach(made.name); other.close()\n"
        "print(made.name); made.unlink(); made.unlink()"
    )
    process = start_python(code)
    name, error = process.communicate(timeout=60)
    assert process.returncode == 0 and error == ""
    with pytest.raises(FileNotFoundError):
        FrameSlots.attach(name.strip())


def test_a_forked_or_spawned_writer_is_quiet_too():
    """multiprocessing's children share the maker's tracker; being told of one memory twice it used to complain."""
    code = (
        "import multiprocessing as mp, sys\n"
        "from genreward_jax.envs.frame_slots import FrameSlots\n"
        "def use(name):\n    slots = FrameSlots.attach(name); slots.write(slots._frames[0] * 0 + 7); slots.close()\n"
        "made = FrameSlots.create(32, 2)\n"
        "child = mp.get_context('fork').Process(target=use, args=(made.name,)); child.start(); child.join()\n"
        "print(made.take(0).mean(), child.exitcode); made.unlink()"
    )
    process = start_python(code)
    out, error = process.communicate(timeout=60)
    assert (out.strip(), error) == ("7.0 0", "")
    assert run_python("print(1)") == "1"
