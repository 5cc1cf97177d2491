"""Ending politely: a signal asks the loop to save and leave."""

import signal
from typing import Any


class StopSignal:
    """Set by Ctrl-C or SIGTERM; the loop saves and ends. A second Ctrl-C ends at once."""

    def __init__(self) -> None:
        self.name = ""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._caught)

    def _caught(self, number: int, frame: Any) -> None:
        if self.name:
            raise KeyboardInterrupt
        self.name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"

    def __call__(self) -> bool:
        return bool(self.name)
