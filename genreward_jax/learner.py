"""Train steps beside acting: the environment plays on while one train step is computed."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Learner:
    """Carries out train steps, one at a time, none ahead of what is owed; with ``overlap`` in a thread of its own.

    XLA's CPU client runs a policy call only after the train step that the same thread dispatched before it, so acting
    and training overlap only from two threads. A step that is owed begins at once and the next one waits for it: the
    train ratio holds exactly, and the policy that acts is at most one train step older than it would be otherwise.

    Args:
        step: Computes one train step; with ``overlap`` it must return when it is done.
        overlap: False computes each step where it is owed.
    """

    def __init__(self, step: Callable[[], None], overlap: bool) -> None:
        self._step, self._overlap = step, overlap
        self._thread = ThreadPoolExecutor(1, "learner")
        self._running: Future | None = None
        self.waited_s = 0.0

    def begin(self, preparation: Callable[[], None]) -> None:
        """Begins, beside acting, something that the first step needs."""
        self._running = self._thread.submit(preparation)

    def owe(self, count: int) -> None:
        """Begins ``count`` more train steps, and returns when all but the last are done.

        Raises:
            Exception: Whatever a step before raised.
        """
        for _ in range(count):
            self.settle()
            if self._overlap:
                self._running = self._thread.submit(self._step)
            else:
                self._step()

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
        self._thread.shutdown()
