"""What a sweep shows: one table that is drawn over itself in a terminal, and now and then a line elsewhere."""

import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from genreward_jax.progress import clock

RUNNING, WAITING, FINISHED, FAILED, STOPPED = "running", "waiting", "done", "failed", "stopped"
ORDER = (RUNNING, FAILED, WAITING, STOPPED, FINISHED)  # in a table that has not room for all
LINE_S = 60.0  # between two lines where there is no terminal


@dataclass
class Row:
    """A run in the table.

    Attributes:
        steps: It is to reach.
        first: Step at which this sweep began with it; -1 while it has not.
        tries: Attempts that failed.
        lives: Attempts that were told of.
    """

    name: str
    steps: int
    state: str = WAITING
    step: int = 0
    first: int = -1
    node: str = ""
    note: str = ""
    tries: int = 0
    lives: int = 0


def counts(rows: list[Row]) -> str:
    """'2 running, 3 waiting, 1 done (of 6)': what there is of each."""
    seen = Counter(row.state for row in rows)
    told = [f"{seen[state]} {state}" for state in (RUNNING, WAITING, FINISHED, FAILED, STOPPED) if seen[state]]
    return f"{', '.join(told)} (of {len(rows)})"


def percent(rows: list[Row]) -> float:
    """Steps that have been made, of all, in percent."""
    return 100 * sum(min(row.step, row.steps) for row in rows) / max(1, sum(row.steps for row in rows))


def left(rows: list[Row], seconds: float) -> float | None:
    """Seconds until the end at the speed that this sweep has had so far; None while it has none.

    Args:
        seconds: Since it began.
    """
    made = sum(row.step - row.first for row in rows if row.first >= 0)
    missing = sum(max(0, row.steps - row.step) for row in rows if row.state in (RUNNING, WAITING))
    return missing * seconds / made if made > 0 else None


def summary(rows: list[Row], seconds: float) -> str:
    """The sweep in one line."""
    remaining = left(rows, seconds)
    eta = f", about {clock(remaining)} left" if remaining else ""
    return f"{counts(rows)}; {percent(rows):.0f}% of all steps in {clock(seconds)}{eta}"


def table(rows: list[Row], seconds: float, width: int, height: int) -> list[str]:
    """Lines for a terminal of this many columns and lines: the runs, those that run first, and the sum."""
    shown = sorted(rows, key=lambda row: ORDER.index(row.state))
    room = max(1, height - 3)
    hidden = shown[room - 1 :] if len(shown) > room else []
    shown = shown[: room - 1] if hidden else shown
    name = max([len(row.name) for row in shown], default=0)
    lines = []
    for row in shown:
        done = f"{100 * min(row.step, row.steps) / max(1, row.steps):3.0f}%  {row.step:,} of {row.steps:,}"
        again = f"try {row.tries + 1}" if row.tries and row.state in (RUNNING, WAITING) else ""
        told = "  ".join(filter(None, [row.node if row.state == RUNNING else "", again, row.note]))
        lines.append(f"  {row.name:<{name}}  {row.state:<8} {done:<26} {told}".rstrip())
    if hidden:
        lines.append(f"  and {counts(hidden).rpartition(' (')[0]}")
    lines.append(summary(rows, seconds))
    return [line[: width - 1] for line in lines]


class Screen:
    """Draws the table over itself in a terminal; elsewhere says a line when something happens and once a minute.

    Args:
        say: Told each line. Where it is not ``print``, nothing is drawn.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say_line = say
        self.draws = say is print and sys.stdout.isatty()
        self.drawn, self.last = 0, time.monotonic()

    def say(self, text: str) -> None:
        """A sentence, above the table."""
        self._wipe()
        self.say_line(text)
        if self.say_line is print:
            sys.stdout.flush()

    def show(self, rows: list[Row], seconds: float, now: bool = False) -> None:
        """Draws the table again, or says the line if it is time (or ``now``)."""
        if self.draws:
            size = shutil.get_terminal_size()
            lines = table(rows, seconds, size.columns, size.lines)
            self._wipe()
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()
            self.drawn = len(lines)
        elif now or time.monotonic() - self.last >= LINE_S:
            self.last = time.monotonic()
            self.say(summary(rows, seconds))

    def _wipe(self) -> None:
        if self.drawn:
            sys.stdout.write(f"\x1b[{self.drawn}A\x1b[J")
            self.drawn = 0
