"""Ending politely: a signal asks the loop to save and leave."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

FROM_TERMINAL = (signal.SIGINT, signal.SIGTERM)  # they come to the whole group of processes


@contextlib.contextmanager
def children_spared() -> Iterator[None]:
    """Processes that are started inside do not hear Ctrl-C and SIGTERM, not even before they can say so themselves.

    A child has its parent's mask. What comes in between arrives here afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FROM_TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopSignal:
    """Set by Ctrl-C or SIGTERM; the loop saves and ends. A second Ctrl-C ends at once."""

    def __init__(self) -> None:
        self.name = ""
        for number in FROM_TERMINAL:
            signal.signal(number, self._caught)

    def _caught(self, number: int, frame: Any) -> None:
        if self.name:
            raise KeyboardInterrupt
        self.name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"

    def __call__(self) -> bool:
        return bool(self.name)
