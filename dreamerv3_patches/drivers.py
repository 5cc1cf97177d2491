"""Opens environments in their processes while the caller does something else."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import portal

from dreamerv3_patches.apply import apply


class Ahead:
    """Environments that are being opened, on a thread of portal's own kind; whoever takes them closes them.

    Upstream's processes belong to the thread that starts them, and portal warns of plain Python threads.

    Args:
        make: Starts the processes; gives something with ``close()``.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        apply()  # upstream's driver needs its repairs
        self._opening: Future | None = Future()
        portal.Thread(self._fill, self._opening, make, name="environments", start=True)

    @staticmethod
    def _fill(future: Future, make: Callable[[], Any]) -> None:
        try:
            future.set_result(make())
        except BaseException as error:
            future.set_exception(error)

    def take(self) -> Any:
        """What ``make`` gave, once it is there; only once.

        Raises:
            BaseException: What ``make`` raised.
        """
        made = self._opening.result()
        self._opening = None  # not before: who was interrupted while waiting has taken nothing
        return made

    def close(self) -> None:
        """Closes what nobody took, once it is there."""
        opening, self._opening = self._opening, None
        if opening is not None and opening.exception() is None:
            opening.result().close()

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
