"""Processes that end with the one that started them, however that one ends."""

import multiprocessing
import os
import threading
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """Called in a process that multiprocessing has spawned: it ends when its parent is gone, whatever it waits for.

    A process may wait for its parent where nothing tells it that there is none: at a barrier, or at a queue of which
    it holds both ends.
    """
    parent = multiprocessing.parent_process()
    threading.Thread(target=_watch, args=(parent.sentinel,), name="orphan", daemon=True).start()


def _watch(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
