"""Opens environments in their processes while the caller does something else."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import portal


def open_beside(make: Callable[[], Any]) -> Future:
    """Calls ``make``, which starts processes, on a thread of portal's own kind; the future holds what it gives.

    Upstream's processes belong to the thread that starts them, and portal warns of plain Python threads.
    """
    future: Future = Future()

    def fill() -> None:
        try:
            future.set_result(make())
        except BaseException as error:
            future.set_exception(error)

    portal.Thread(fill, name="environments", start=True)
    return future
