"""``--script parallel``: environments that neither wait for each other nor for a train step, by upstream's actor.

The algorithm is :class:`genreward_jax.train.Loop`'s; only where rows come from differs. Rows enter the same shaped
replay, whoever brings them, so rewards, logs and checkpoints are the same as with ``--script train``.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dreamerv3_patches.parallel import Actors
from genreward_jax.run import Run
from genreward_jax.train import Loop

AHEAD = 4  # train steps that rows may run ahead of the learner before they wait: upstream's tolerance


class ParallelLoop(Loop):
    """The training loop with acting beside it: :meth:`advance` is one train step, if one is owed.

    Each row adds what the train ratio says to what is owed, as in ``--script train``; rows wait when :data:`AHEAD`
    train steps are owed or an evaluation is due, and the learner waits when none is owed. The policy that acts is as
    old as the steps under way.

    Args:
        run: The parts.
        makers: The training environments, one function each.
    """

    def __init__(self, run: Run, makers: list[Callable[[], Any]]) -> None:
        self.owed, self.changed = 0, threading.Condition()
        self.acting, self.adding = threading.Lock(), threading.Lock()  # held by the main thread while it settles
        self.settled, self.over, self.rows_waited_s = False, False, 0.0
        super().__init__(run, makers)

    def rows_from(self, makers: list[Callable[[], Any]]) -> None:
        args = self.run.config.run
        batch = int(args.actor_batch) or max(1, len(makers) // 2)
        self.actors = Actors(
            makers,
            self.policy.init,
            self.act,
            self.policy.by_chance,
            self.add,
            batch=batch,
            note=self.note,
            log_every=args.log_every,
        )

    def act(self, carry: Any, obs: dict[str, np.ndarray]) -> tuple[Any, dict, dict]:
        """Line 13, for the environments that ask; in the actor's thread."""
        with self.acting:
            return self.policy(carry, obs)

    def add(self, row: dict[str, np.ndarray], worker: int) -> None:
        """Lines 14 to 22 for one row, when its turn has come; in the thread of the actor's rows."""
        self._wait_for_turn()
        run = self.run
        with self.adding:
            if self.over or run.step >= run.config.run.steps:
                return
            run.step.increment(int(not row["is_first"]))  # a reset is no step
            self.policy_fps.step()
            run.replay.add(row, worker)
            with self.changed:
                self.owed += self.due()
                self.changed.notify_all()

    def note(self, figures: dict[str, float]) -> None:
        """Upstream's own figures of its queues, among the metrics."""
        with self.adding:
            self.run.logger.add(figures, prefix="parallel")

    def advance(self) -> None:
        """Lines 9 to 12, if a train step is owed or comes to be within a moment."""
        self._go_on()
        self.actors.check()
        with self.changed:
            if not self.changed.wait_for(lambda: self.owed, timeout=0.1):
                return
        self._train_one()

    def settle(self) -> None:
        """Returns when nobody acts, adds or trains, and no train step is owed; :meth:`advance` lets all go on."""
        if not self.settled:
            self.acting.acquire()
            self.adding.acquire()
            self.settled = True
        while self.owed:
            self._train_one()
        super().settle()

    @property
    def waited_s(self) -> float:
        return self.rows_waited_s

    def close(self) -> None:
        self.over = True
        self._go_on()
        with self.changed:
            self.changed.notify_all()
        self.actors.close()
        self.learner.close()

    def _train_one(self) -> None:
        self.learner.owe(1)
        with self.changed:
            self.owed -= 1
            self.changed.notify_all()

    def _wait_for_turn(self) -> None:
        begun, step = time.perf_counter(), self.run.step
        with self.changed:
            self.changed.wait_for(lambda: (self.owed < AHEAD and step < self.pause_at) or self.over)
        self.rows_waited_s += time.perf_counter() - begun

    def _go_on(self) -> None:
        if self.settled:
            self.settled = False
            self.adding.release()
            self.acting.release()
            with self.changed:
                self.changed.notify_all()  # the step to pause at may have moved
