"""The replay with the shaper before it: whoever adds a row, driver or upstream's parallel actor, adds a shaped one."""

from collections.abc import Callable
from typing import Any

import numpy as np

from genreward_jax.shaping import RewardShaper, Row


class ShapedReplay:
    """An ``embodied`` replay whose rows pass the reward shaper first.

    Args:
        replay: ``embodied.replay.Replay`` or anything with its methods.
        shaper: The filter; it knows nothing of the replay.
        on_row: Called with (row, worker) for each row that enters the replay, shaped.
    """

    def __init__(self, replay: Any, shaper: RewardShaper, on_row: Callable[[Row, int], None] | None = None) -> None:
        self.replay = replay
        self.shaper = shaper
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
        self.on_row(row, worker)
        self.replay.add(row, worker)
