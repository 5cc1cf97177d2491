"""The replay with the shaper before it: whoever adds a row, driver or upstream's parallel actor, adds a shaped one."""

from collections.abc import Callable
from typing import Any

import numpy as np

from genreward_jax.kept_frames import KeptFrames
from genreward_jax.shaping import KEPT_FRAME, RewardShaper, Row


class ShapedReplay:
    """An ``embodied`` replay whose rows pass the reward shaper first.

    Args:
        replay: ``embodied.replay.Replay`` or anything with its methods.
        shaper: The filter; it knows nothing of the replay.
        on_row: Called with (row, worker) for each row that enters the replay, shaped.
        frames: Where the large frames of rows go that hold one (a shaper with ``keep_frames``); None: nowhere.
    """

    def __init__(
        self,
        replay: Any,
        shaper: RewardShaper,
        on_row: Callable[[Row, int], None] | None = None,
        frames: KeptFrames | None = None,
    ) -> None:
        self.replay = replay
        self.shaper = shaper
        self.frames = frames
        self.on_row = on_row or (lambda row, worker: None)

    def __len__(self) -> int:
        return len(self.replay)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "replay":
            raise AttributeError(name)
        return getattr(self.replay, name)

    def add(self, row: dict[str, np.ndarray], worker: int = 0) -> None:
        """Pushes a row through the shaper and adds what comes out, which may be nothing yet or several rows."""
        worker = int(worker)
        for ready in self.shaper.push(worker, row):
            self._insert(ready, worker)

    def drain(self) -> None:
        """Waits for late rewards and adds the rows that they held back."""
        for worker, ready in self.shaper.flush():
            self._insert(ready, worker)

    def save(self) -> None:
        """Drains, then saves: a checkpoint never misses rows that only waited for their reward."""
        self.drain()
        return self.replay.save()

    def load(self, data: Any = None) -> None:
        return self.replay.load(data)

    def _insert(self, row: Row, worker: int) -> None:
        frame = row.pop(KEPT_FRAME, None)
        self.on_row(row, worker)
        self.replay.add(row, worker)
        if self.frames is not None and frame is not None:
            chunk, index = self.replay.streams[worker][-1]  # where the row is now
            self.frames.put(str(chunk), index, frame)
