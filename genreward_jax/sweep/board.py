"""The one place that knows which attempt at a run may train: attempts report here, and are told to go on or to stop.

Ray starts a run anew when it believes its node to be dead. A node that only could not be reached may train on, so that
two trainings would write to one directory. Hence a lease: an attempt that has had no answer from here for ``lease_s``
ends its training, and another one is let in only when the last report is older than one and a half times that.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

GO, STOP, LOST = "go", "stop", "lost"
UNCHANGED = -1  # a step that is not told
REPORT_S = 1.0  # seconds between two reports of an attempt


@dataclass
class Entry:
    """What is known of one run."""

    owner: str = ""  # the attempt that may train
    seen: float = 0.0  # when it last reported, by this process's clock
    ended: bool = True
    node: str = ""
    step: int = 0
    first_step: int = -1  # where this sweep began with it
    note: str = ""
    lives: int = 0  # attempts that were let in


@dataclass
class Board:
    """Answers attempts and keeps what they tell, for the table; as a Ray actor there is one in a sweep.

    Args:
        lease_s: Seconds without an answer after which an attempt must end its training.
        clock: Seconds that only go forward.
    """

    lease_s: float
    clock: Callable[[], float] = time.monotonic
    entries: dict[str, Entry] = field(default_factory=dict)
    stopping: bool = False
    closed_until: float = -1.0

    def begin(self, name: str, attempt: str, node: str) -> str | float:
        """Asks to train a run: GO, STOP, or the seconds after which to ask again."""
        entry = self.entries.setdefault(name, Entry())
        if self.stopping:
            return STOP
        others = entry.seen + 1.5 * self.lease_s if not entry.ended and entry.owner != attempt else self.clock()
        left = max(others, self.closed_until) - self.clock()
        if left > 0:
            entry.note = "waiting for the one before to be gone"
            return min(left + 0.05, 5.0)
        entry.lives += entry.owner != attempt
        entry.owner, entry.seen, entry.ended, entry.node, entry.note = attempt, self.clock(), False, node, "starting"
        return GO

    def report(self, name: str, attempt: str, step: int, note: str = "") -> str:
        """Tells how far a run is: GO, STOP, or LOST when another attempt has it."""
        entry = self.entries.setdefault(name, Entry(owner=attempt))  # one that it forgot because it was restarted
        if entry.owner != attempt or entry.ended and entry.seen:
            return LOST
        entry.seen, entry.ended, entry.note = self.clock(), False, note
        if step != UNCHANGED:
            entry.step = int(step)
            entry.first_step = int(step) if entry.first_step < 0 else entry.first_step
        return STOP if self.stopping else GO

    def end(self, name: str, attempt: str, step: int) -> None:
        """The attempt's training is over, whatever became of it."""
        entry = self.entries.setdefault(name, Entry(owner=attempt))
        if entry.owner == attempt:
            entry.ended, entry.seen, entry.step, entry.note = True, self.clock(), int(step), ""

    def forgot(self) -> None:
        """Nobody is let in before whoever trains must have reported."""
        self.closed_until = self.clock() + 1.5 * self.lease_s

    def look(self, stopping: bool) -> dict[str, dict[str, Any]]:
        """For each run that was begun: whether it trains, node, step, where this sweep began with it, note, attempts.

        Args:
            stopping: From now on every attempt is told to stop.
        """
        self.stopping = self.stopping or stopping
        return {
            name: {
                "running": not e.ended,
                "node": e.node,
                "step": e.step,
                "first": e.first_step,
                "note": e.note,
                "lives": e.lives,
            }
            for name, e in self.entries.items()
        }
