"""An attempt's side of the board: it may train as long as the board answers. See board.py for why."""

import socket
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from genreward_jax.sweep.board import LOST, REPORT_S, UNCHANGED


class Gone(Exception):
    """This attempt may not train any longer: nobody answers, or the run is another's."""


class Lease:
    """The right to train one run.

    Args:
        call: ``call(method, *arguments)`` asks the board; raises when no answer comes.
        name: The run's.
        lease_s: See board.py.
    """

    def __init__(self, call: Callable[..., Any], name: str, lease_s: float) -> None:
        self.call, self.name, self.lease_s = call, name, lease_s
        self.attempt = uuid.uuid4().hex
        self.pause_s = min(REPORT_S, lease_s / 10)
        self.answered = time.monotonic()  # when the last question was asked that got an answer

    def begin(self) -> str:
        """Waits until no other attempt trains this run; GO or STOP.

        Raises:
            Gone: Nobody answers.
        """
        while True:
            said = self._ask("begin", socket.gethostname())
            if isinstance(said, str):
                return said
            time.sleep(said)

    def report(self, step: int = UNCHANGED, note: str = "") -> str:
        """Tells the step; GO or STOP.

        Raises:
            Gone: Nobody has answered for the length of the lease, or the run is another's.
        """
        said = self._ask("report", step, note)
        if said == LOST:
            raise Gone(f"{self.name} is another attempt's now")
        return said

    def end(self, step: int) -> None:
        """The training is over and its files are where they belong."""
        with suppress(Gone):
            self._ask("end", step)

    def holds(self) -> bool:
        """Whether the board answered within the lease, so that nobody else can have the run."""
        return time.monotonic() - self.answered < self.lease_s

    def _ask(self, method: str, *arguments: Any) -> Any:
        while True:
            asked = time.monotonic()
            try:
                said = self.call(method, self.name, self.attempt, *arguments)
            except Exception as error:  # of many kinds: no answer in time, no board
                if not self.holds():
                    raise Gone(f"nobody has answered for {self.lease_s:g} s ({type(error).__name__})") from None
                time.sleep(self.pause_s)
                continue
            self.answered = asked
            return said
