"""Train steps beside acting: the environment plays on while one train step is computed."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Learner:
    """Carries out train steps in a thread of its own, one at a time, none ahead of what is owed.

    XLA's CPU client runs a policy call only after the train step that the same thread dispatched before it, so acting
    and training overlap only from two threads. A step that is owed begins at once and the next one waits for it: the
    train ratio holds exactly, and the policy that acts is at most one train step older than it would be otherwise.

    Args:
        step: Computes one train step and returns when it is done.
        overlap: False computes each step where it is owed, so that a run does not depend on timing.
    """

    def __init__(self, step: Callable[[], None], overlap: bool) -> None:
        self._step = step
        self._thread = ThreadPoolExecutor(1, "learner") if overlap else None
        self._running: Future | None = None
        self.waited_s = 0.0

    def owe(self, count: int) -> None:
        """Begins ``count`` more train steps, and returns when all but the last are done.

        Raises:
            Exception: Whatever a step before raised.
        """
        for _ in range(count):
            if self._thread is None:
                self._step()
                continue
            self.settle()
            self._running = self._thread.submit(self._step)

    def begin(self, preparation: Callable[[], None]) -> None:
        """Begins something that the first step needs; only with ``overlap``."""
        self._running = self._thread.submit(preparation)

    def settle(self) -> None:
        """Returns when no train step is under way; needed before what it changes is saved, read or judged.

        Raises:
            Exception: What the step raised.
        """
        running, self._running = self._running, None
        if running is not None:
            begun = time.perf_counter()
            running.result()
            self.waited_s += time.perf_counter() - begun

    def close(self) -> None:
        """Ends the thread; a step under way is finished, and what it raises is forgotten."""
        if self._thread is not None:
            self._thread.shutdown()
