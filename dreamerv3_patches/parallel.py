"""Upstream's parallel mode without its files: its actor and its environments' loop, feeding functions of ours.

``embodied.run.parallel.combined`` also brings a learner that never ends, pickled checkpoints, and a replay in a process
of its own, where no reward model is. What is fast in it is the rest: environments that do not wait for each other, and
a policy called for whichever of them have asked. That is what is used here.
"""

import concurrent.futures
import multiprocessing
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cloudpickle
import elements
import embodied.run.parallel as upstream
import numpy as np
import portal

from dreamerv3_patches.env_server import Process
from dreamerv3_patches.parallel_env import CARRIED, LOGGER, LOGS, REPLAY, leave_signals_to_parent, play
from dreamerv3_patches.proxies import Proxy, replace_names

Row = dict[str, np.ndarray]
_in_thread = threading.local()  # which Actors upstream's actor is run for


class Actors:
    """Environments in processes of their own, a policy that serves them, and their rows, one at a time.

    Nothing given here may raise into upstream's threads, which would end the process on the spot: what is raised is
    kept for :meth:`check`, and from then on chance acts and rows are dropped.

    Args:
        makers: One function an environment, without arguments.
        init_policy: Number of environments to their carries, as the agent's.
        policy: (carry, observations) to (carry, actions, outputs), each batched; called in one thread.
        chance: The same without an agent, for what is still asked when all is over.
        add: Called with (row, environment's number), each environment's rows in order, all in one thread; while it
            waits, so do the environments, some batches later.
        batch: Environments a policy call serves.
        note: Called with figures of upstream's actor, every ``log_every`` seconds.
        log_every: Seconds.
    """

    def __init__(
        self,
        makers: list[Callable[[], Any]],
        init_policy: Callable[[int], Any],
        policy: Callable[[Any, Row], tuple[Any, Row, Row]],
        chance: Callable[[Any, Row], tuple[Any, Row, Row]],
        add: Callable[[Row, int], None],
        *,
        batch: int,
        note: Callable[[dict[str, float]], None] = lambda figures: None,
        log_every: float = 120.0,
    ) -> None:
        if not 1 <= batch <= len(makers):
            raise ValueError(f"a policy call cannot serve {batch} of {len(makers)} environments")
        replace_names(upstream, "portal", Client=_client, BatchServer=_batch_server)
        _keep_thread_pools_known()
        portal.setup(clientkw={"logging": False}, serverkw={"logging": False})  # else a line for each connection
        self.init_policy = init_policy
        self._policy, self._chance, self._add, self._note = policy, chance, add, note
        self._over, self._failure = threading.Event(), None
        self._server = None  # upstream's, which it hands to nobody
        usage = dict.fromkeys(("psutil", "nvsmi", "gputil", "malloc", "gc"), False)
        args = elements.Config(
            actor_batch=batch,
            actor_threads=1,
            log_every=log_every,
            usage=usage,
            actor_addr=f"localhost:{portal.free_port()}",
            replay_addr=REPLAY,
            logger_addr=LOGGER,
        )
        restored = threading.Barrier(1)  # upstream's actor waits for a learner; ours has restored what there was
        self._actor = portal.Thread(self._act, restored, args, name="actor", start=True)
        pipes = [multiprocessing.get_context("spawn").Pipe(duplex=False) for _ in makers]
        self._errors = [ours for ours, _ in pipes]
        self._envs = [
            Process(play, cloudpickle.dumps(maker), i, args, pipes[i][1], start=True) for i, maker in enumerate(makers)
        ]
        for _, theirs in pipes:
            theirs.close()

    def policy(self, carry: Any, obs: Row) -> tuple[Any, Row, Row]:
        """What upstream's actor calls its agent's policy."""
        if not self._over.is_set():
            try:
                return self._policy(carry, obs)
            except BaseException as error:
                self._fail(error)
        return self._chance(carry, obs)

    def check(self) -> None:
        """Raises what a function given here or an environment has raised, or that an environment is gone."""
        for index, pipe in enumerate(self._errors):
            if self._envs[index].running and not pipe.poll():
                continue
            try:
                self._fail(pipe.recv())
            except EOFError:
                self._envs[index].join(1.0)
                code = self._envs[index].exitcode
                self._fail(RuntimeError(f"the process of environment {index} ended, exit code {code}"))
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Ends the environments and upstream's actor; rows that come meanwhile are dropped."""
        self._over.set()
        for process in self._envs:
            process.kill(0.1)
            process.join(1.0)
        if self._server is not None:
            self._server.close(1.0)
        self._actor.join(1.0)
        multiprocessing.active_children()  # collects those that have ended

    def _act(self, restored: threading.Barrier, args: elements.Config) -> None:
        _in_thread.actors = self
        upstream.parallel_actor(self, restored, args)

    def _rows(self, rows: Row) -> None:
        kept = {key.replace(CARRIED, LOGS): values for key, values in rows.items() if key not in ("envid", "is_eval")}
        for i, index in enumerate(rows["envid"]):
            if self._over.is_set():
                return
            row = {key: values[i] for key, values in kept.items()}
            try:
                self._add(row, int(index))
            except BaseException as error:
                self._fail(error)

    def _figures(self, figures: dict[str, Any]) -> None:
        if not self._over.is_set():
            try:
                self._note({k: float(v) for k, v in figures.items() if np.asarray(v).dtype.kind in "fiu"})
            except BaseException as error:
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        self._over.set()


class _Batcher(Process):
    """The process that gathers environments' questions: Ctrl-C, which goes to the whole group, is the parent's."""

    @staticmethod
    def _wrapper(*args: Any) -> None:
        leave_signals_to_parent()
        Process._wrapper(*args)


def _keep_thread_pools_known() -> None:
    """Mends: portal's pools make Python forget all thread pools, and so wait for ever for idle threads at its exit.

    Can go: when portal leaves ``concurrent.futures.thread._threads_queues`` alone.
    """
    forgetting = SimpleNamespace(_threads_queues={})
    replace_names(portal.poollib, "concurrent", futures=Proxy(concurrent.futures, thread=forgetting))


def _client(address: str, *args: Any, **kwargs: Any) -> SimpleNamespace:
    """Stands in for the actor's clients: what it would send to other processes is for this one."""
    actors = _in_thread.actors
    if address == REPLAY:
        return SimpleNamespace(add_batch=actors._rows, stats=dict)
    return SimpleNamespace(tran=lambda rows: None, add=actors._figures, stats=dict)  # the rows have all there is to say


def _batch_server(*args: Any, **kwargs: Any) -> Any:
    replace_names(portal.batching, "process", Process=_Batcher)
    _in_thread.actors._server = portal.BatchServer(*args, **kwargs)
    return _in_thread.actors._server
