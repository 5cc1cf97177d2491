"""Messages and their shared memory: values, alignment, lifetime, and nothing left behind."""

import gc
import os
import socket
from dataclasses import dataclass

import numpy as np
import pytest

from torch_bridge import shared
from torch_bridge.dlpack import to_jax


@dataclass
class Parcel:
    frames: np.ndarray
    names: tuple[str, ...]


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def over(pair, message):
    shared.send(pair[0], message)
    return shared.receive(pair[1])[0]


def open_files() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def mapped() -> int:
    gc.collect()
    return open("/proc/self/maps").read().count("memfd:genreward")


def test_arrays_and_objects_arrive_as_they_were(pair, rng):
    frames = rng.integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)
    sent = [
        Parcel(frames, ("pick", "place")),
        {"strided": frames[::2, :, ::-1], "big-endian": np.arange(3, dtype=">f4"), "flag": np.array([True, False])},
        (np.float32(2.5), np.array(7), np.zeros((0, 3)), np.array(["word"]), None),
    ]
    got = over(pair, sent)
    assert got[0].names == sent[0].names and (got[0].frames == frames).all() and got[0].frames.dtype == np.uint8
    for key, value in sent[1].items():
        assert (got[1][key] == value).all() and got[1][key].dtype == value.dtype
    assert got[2][:2] == (2.5, 7) and got[2][1].shape == () and got[2][2].shape == (0, 3) and got[2][3] == ["word"]


def test_messages_keep_their_order_and_their_own_memory(pair, rng):
    arrays = [rng.standard_normal(n).astype(np.float32) for n in (5, 1000, 3)]
    for array in arrays:
        shared.send(pair[0], array)
    shared.send(pair[0], "last")
    got = [shared.receive(pair[1])[0] for _ in range(4)]
    assert all((a == b).all() for a, b in zip(arrays, got[:3], strict=True)) and got[3] == "last"


def test_every_array_is_aligned_as_xla_wants_it(pair):
    got = over(pair, [np.zeros(n, np.float32) for n in (1, 3, 17, 64)])
    assert [a.ctypes.data % shared.ALIGNMENT for a in got] == [0, 0, 0, 0]


def test_a_closed_pair_ends_the_reading(pair):
    pair[0].close()
    with pytest.raises(EOFError):
        shared.receive(pair[1])


def test_nothing_is_left_behind(pair, rng):
    """Neither names in /dev/shm (there are none at any time) nor open files nor mappings."""
    names, files = set(os.listdir("/dev/shm")), open_files()
    for _ in range(50):
        got = over(pair, rng.standard_normal((100, 100)))
        assert set(os.listdir("/dev/shm")) == names
    del got
    assert open_files() == files and mapped() == 0


def test_into_jax_without_a_copy(pair, rng):
    """The jax array has the address of the shared memory and keeps it alive, alone."""
    values = rng.standard_normal((16, 4, 8, 8)).astype(np.float32)
    array = over(pair, values)
    moved = to_jax(array)
    assert moved.unsafe_buffer_pointer() == array.ctypes.data
    del array
    for _ in range(20):  # later messages must not be written over it
        over(pair, np.zeros_like(values))
    assert mapped() == 1
    np.testing.assert_array_equal(np.asarray(moved), values)
    del moved
    assert mapped() == 0


def test_into_jax_with_a_copy_where_it_must(rng):
    """Memory that XLA cannot take over gives the same values."""
    values = rng.standard_normal((8, 9)).astype(np.float32)
    for array in (values[:, ::2], values.reshape(-1)[1:], np.zeros((0, 3), np.float32)):
        np.testing.assert_array_equal(np.asarray(to_jax(array)), array)
