"""Frames handed from an environment's process to the trainer's through shared memory, one numbered slot a frame.

The trainer creates the slots and unlinks them; an environment attaches by name. Each slot has one byte of state, 0
(free) or 1 (full): only the environment turns 0 into 1, only the trainer 1 into 0, so no lock is needed.
"""

import threading
import time
from multiprocessing import resource_tracker, shared_memory

import numpy as np

_HEADER = 16  # bytes: number of slots and side of a frame, as two little-endian int64
_ATTACHING = threading.Lock()


class FrameSlots:
    """A row of ``count`` slots, each for a uint8 (size, size, 3) frame; use :meth:`create` or :meth:`attach`."""

    def __init__(self, memory: shared_memory.SharedMemory, size: int, count: int) -> None:
        self.size, self.count = size, count
        self._memory = memory
        self._state = np.ndarray((count,), np.uint8, memory.buf, _HEADER)
        self._frames = np.ndarray((count, size, size, 3), np.uint8, memory.buf, _HEADER + count)
        self._next = 0

    @property
    def name(self) -> str:
        """What :meth:`attach` needs to be told."""
        return self._memory.name

    @classmethod
    def create(cls, size: int, count: int) -> "FrameSlots":
        """New, empty slots, owned by this process: it calls :meth:`unlink` at the end."""
        if size < 1 or count < 1:
            raise ValueError(f"cannot make {count} frame slots of {size}x{size}")
        memory = shared_memory.SharedMemory(create=True, size=_HEADER + count * (1 + size * size * 3))
        np.ndarray((2,), "<i8", memory.buf)[:] = count, size
        slots = cls(memory, size, count)
        slots._state[:] = 0
        return slots

    @classmethod
    def attach(cls, name: str, size: int | None = None, count: int | None = None) -> "FrameSlots":
        """Slots that another process made; ``size`` and ``count``, where given, must be those they were made with.

        Raises:
            FileNotFoundError: There are none of that name.
            ValueError: They have another size or count.
        """
        memory = _open_untracked(name)
        there, side = (int(x) for x in np.ndarray((2,), "<i8", memory.buf))
        if (size or side) != side or (count or there) != there:
            memory.close()
            raise ValueError(f"frame slots {name} are {there} of {side}x{side}, not {count} of {size}x{size}")
        return cls(memory, side, there)

    def write(self, frame: np.ndarray, timeout: float = 600.0) -> int:
        """Puts a frame into a free slot, waiting for one where all are full.

        Args:
            frame: uint8 (size, size, 3).
            timeout: Seconds to wait; long, because the trainer compiles and saves between steps.

        Returns:
            The slot's number.

        Raises:
            RuntimeError: No slot became free in time.
            ValueError: A frame of another shape or type.
        """
        if frame.shape != (self.size, self.size, 3) or frame.dtype != np.uint8:
            raise ValueError(f"a frame slot holds uint8 {(self.size, self.size, 3)}, not {frame.dtype} {frame.shape}")
        deadline = time.monotonic() + timeout
        while self._state.all():
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"none of {self.count} frame slots became free in {timeout:g} s: is the reader alive?"
                )
            time.sleep(0.002)
        order = (np.arange(self.count) + self._next) % self.count
        slot = int(order[np.argmin(self._state[order])])
        self._next = (slot + 1) % self.count
        self._frames[slot] = frame
        self._state[slot] = 1  # last: the reader may look from here on
        return slot

    def take(self, slot: int) -> np.ndarray:
        """Copy of a full slot's frame, uint8 (size, size, 3); the slot is free after it.

        Raises:
            IndexError: No such slot.
            RuntimeError: The slot is free, so the frame was taken before or never written.
        """
        if not 0 <= slot < self.count:
            raise IndexError(f"frame slot {slot} is not one of 0 to {self.count - 1}")
        if not self._state[slot]:
            raise RuntimeError(f"frame slot {slot} holds no frame")
        frame = self._frames[slot].copy()
        self._state[slot] = 0
        return frame

    def free(self, slot: int) -> None:
        """Gives a slot back unread, for a frame that turned out not to be needed."""
        self._state[slot] = 0

    def clear(self) -> None:
        """Frees all slots; only while no environment writes (a fresh start of its process, say)."""
        self._state[:] = 0

    @property
    def full(self) -> int:
        """How many slots wait for the reader."""
        return int(self._state.sum())

    def close(self) -> None:
        """Lets go of the memory in this process."""
        self._state = self._frames = None  # NumPy views keep the mapping busy
        self._memory.close()

    def unlink(self) -> None:
        """Removes the memory for good, by the process that created it; closes it first. Safe to call twice."""
        self.close()
        try:
            self._memory.unlink()
        except FileNotFoundError:
            pass


def _open_untracked(name: str) -> shared_memory.SharedMemory:
    """Opens shared memory without the resource tracker's knowledge.

    Python before 3.13 also registers what is merely opened: a process with a tracker of its own would then remove
    the memory at its end, under the creator's feet, and warn of a leak (bpo-38119; ``track=False`` from 3.13 on).
    """
    with _ATTACHING:
        register = resource_tracker.register
        resource_tracker.register = lambda *args: None
        try:
            return shared_memory.SharedMemory(name=name)
        finally:
            resource_tracker.register = register
