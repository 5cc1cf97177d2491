"""Carrying a sweep out on Ray: each run a task that watches a training, retried, resumed, shown and stopped."""

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from genreward_jax.errors import UserError
from genreward_jax.stopping import FROM_TERMINAL, StopSignal
from genreward_jax.sweep import table
from genreward_jax.sweep.board import Board
from genreward_jax.sweep.claim import NAME as CLAIM
from genreward_jax.sweep.claim import Claim
from genreward_jax.sweep.cluster import ray_for_a_sweep, share
from genreward_jax.sweep.plan import Job, check_resources, is_done
from genreward_jax.sweep.storage import Store, is_url, join
from genreward_jax.sweep.table import Row, Screen
from genreward_jax.sweep.worker import DIED, FAILED, FINISHED, REFUSED, STOPPED, Outcome, Terms, attempt

LEASE_S = 60.0  # see board.py: a run whose node is lost goes on elsewhere after one and a half times this
LOOK_S = 1.0  # between two looks at the board
PASSED_ON = ("GENREWARD_", "JAX_COMPILATION_CACHE_DIR", "MUJOCO_GL", "HF_HOME", "HF_HUB_OFFLINE", "WANDB_MODE",
             "WANDB_PROJECT", "XLA_FLAGS", "OMP_WAIT_POLICY")  # fmt: skip


def run_jobs(
    jobs: list[Job],
    out: str | Path,
    *,
    resources: Mapping[str, Any] = {},  # noqa: B006 (never changed)
    retries: int = 2,
    at_once: int | None = None,
    say: Callable[[str], None] = print,
    command: tuple[str, ...] = (),
    lease_s: float = LEASE_S,
) -> dict[str, str]:
    """Trains every job that is not finished, each in a process of its own, on Ray; goes on where runs were left.

    Ray is a local one that is gone afterwards, the cluster named by RAY_ADDRESS, or the one that the caller has
    connected to. Ctrl-C or SIGTERM lets the trainings save and end; the same call goes on with them. A second one ends
    them at once.

    Args:
        jobs: With names of their own each.
        out: A folder that all nodes see, or an fsspec URL; a job's run directory is its name below that.
        resources: For each run: ``num_cpus``, ``num_gpus`` (fractions too), ``memory`` in bytes, ``custom``.
        retries: How often a run is tried again that failed, and as often one whose node or worker died.
        at_once: At most so many runs at a time; None: as many as the resources allow.
        say: Told what happens. ``print`` in a terminal also draws one table.
        command: Stands in for ``python -m genreward_jax train``; its flags follow.
        lease_s: See board.py.

    Returns:
        Names to 'finished', 'failed: why' or 'stopped'.

    Raises:
        UserError: No Ray, no such cluster, resources that no machine has, or an output in use by another sweep.
    """
    check_resources(resources)
    if len({job.name for job in jobs}) < len(jobs):
        raise UserError("Two runs of this sweep have the same name.")
    out = str(out) if is_url(out) else str(Path(out).expanduser().absolute())
    results = {job.name: "finished" for job in jobs if is_done(join(out, job.name), job)}
    missing = [job for job in jobs if job.name not in results]
    say(f"{len(results)} of {len(jobs)} runs are finished already.")
    if missing:
        claim = Claim(out)
        claim.take()
        try:
            with ray_for_a_sweep() as ray:
                options = share(ray, resources, say)
                shares = options["num_cpus"], options["num_gpus"]
                terms = Terms(out, os.getcwd(), lease_s, *shares, _passed_on(), command, CLAIM)
                sweep = _Sweeping(ray, missing, terms, options, retries, at_once, Screen(say), claim)
                results |= sweep.carry_out()
        finally:
            claim.drop()
    return {job.name: results[job.name] for job in jobs}


def _passed_on() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}


class _Sweeping:
    """A sweep under way."""

    def __init__(
        self, ray: Any, jobs: list[Job], terms: Terms, options: dict[str, Any], retries: int, at_once: int | None,
        screen: Screen, claim: Claim,
    ) -> None:  # fmt: skip
        self.ray, self.terms, self.retries, self.screen, self.claim = ray, terms, retries, screen, claim
        self.at_once = at_once or len(jobs)
        self.waiting = deque(jobs)
        self.flying: dict[Any, Job] = {}
        self.results: dict[str, str] = {}
        self.stopping = False
        self.rows = {job.name: _row(job, terms.out) for job in jobs}
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        actor = ray.remote(_Board).options(num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=1)
        self.board = actor.remote(terms.lease_s)
        self.task = ray.remote(_task).options(
            **options, max_retries=retries, retry_exceptions=False, scheduling_strategy="SPREAD"
        )

    def carry_out(self) -> dict[str, str]:
        """Until nothing is left to do, or it was stopped and all trainings have saved."""
        kept = {number: signal.getsignal(number) for number in FROM_TERMINAL}
        stop, began = StopSignal(), time.monotonic()
        try:
            while (self.waiting or self.flying) and not (self.stopping and not self._running()):
                if stop() and not self.stopping:
                    self.stopping = True
                    self.screen.say(f"{stop.name}: the trainings save and end; once more ends them at once.")
                if not self.stopping:
                    self._start()
                self._wait(1)
                self._look()
                if not self.claim.renew():
                    raise UserError(f"Another sweep has begun in {self.terms.out}; this one ends.")
                self.screen.show(list(self.rows.values()), time.monotonic() - began)
            self._wait(len(self.flying))  # what has saved also says so
            for name, row in self.rows.items():
                if name not in self.results:
                    self.results[name], row.state = "stopped", table.STOPPED
            self.screen.show(list(self.rows.values()), time.monotonic() - began, now=True)
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)
            if self.flying:
                self._cancel()
        return self.results

    def _start(self) -> None:
        while self.waiting and len(self.flying) < self.at_once:
            job = self.waiting.popleft()
            self.flying[self.task.remote(job, self.terms, self.board)] = job

    def _wait(self, count: int) -> None:
        """Waits a moment for so many attempts to end."""
        if not self.flying:
            return
        ended, _ = self.ray.wait(list(self.flying), num_returns=count, timeout=LOOK_S)
        for reference in ended:
            job = self.flying.pop(reference)
            try:
                outcome = self.ray.get(reference)
            except self.ray.exceptions.RayError as error:  # Ray itself has tried as often as it may
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                outcome = Outcome(DIED, f"its node or its Ray worker died ({type(error).__name__}: {lines[-1][:300]})")
            self._conclude(job, outcome)

    def _conclude(self, job: Job, outcome: Outcome) -> None:
        row = self.rows[job.name]
        row.step, row.note = max(outcome.step, 0) or row.step, ""
        if outcome.kind == FINISHED:
            row.state, row.step, self.results[job.name] = table.FINISHED, max(row.step, row.steps), "finished"
            self.screen.say(f"{job.name} is done.")
        elif outcome.kind == STOPPED or (self.stopping and outcome.kind != REFUSED):
            row.state, self.results[job.name] = table.STOPPED, "stopped"
        elif outcome.kind == FAILED and row.tries < self.retries:
            row.tries += 1
            row.state = table.WAITING
            self.waiting.appendleft(job)
            self.screen.say(f"{job.name}: {outcome.why}; tried again ({row.tries} of {self.retries}).")
        else:
            row.state, self.results[job.name] = table.FAILED, f"failed: {outcome.why}"
            self.screen.say(f"{job.name} failed: {outcome.why}")

    def _look(self) -> None:
        """Brings the rows up to what the board knows, and lets it say that all is to stop."""
        try:
            states = self.ray.get(self.board.look.remote(self.stopping), timeout=10 * LOOK_S)
        except (self.ray.exceptions.RayActorError, self.ray.exceptions.GetTimeoutError):
            return  # Ray is starting it again, or the machine is very busy
        for name, state in states.items():
            row = self.rows[name]
            if name in self.results:
                continue
            row.state = table.RUNNING if state["running"] else table.WAITING
            row.step, row.first = max(state["step"], row.step), state["first"]
            row.node, row.note = state["node"], state["note"]
            if state["lives"] > row.lives:
                goes_on = f"goes on, from step {row.step:,} or the checkpoint before it," if row.step else "begins"
                self.screen.say(f"{name} {goes_on} on {row.node}.")
                row.lives = state["lives"]

    def _running(self) -> bool:
        """Whether a training still has to save: one that has only been queued has nothing to lose."""
        names = {job.name for job in self.flying.values()}
        return any(row.state == table.RUNNING for name, row in self.rows.items() if name in names)

    def _cancel(self) -> None:
        """Takes away what has not begun, and ends what would not end; for a caller who keeps Ray."""
        for reference in self.flying:
            self.ray.cancel(reference, force=True)
        self.ray.kill(self.board)


class _Board(Board):
    """The board as a Ray actor: one that had to be started again has forgotten who trains."""

    def __init__(self, lease_s: float) -> None:
        import ray

        super().__init__(lease_s)
        if ray.get_runtime_context().was_current_actor_reconstructed:
            self.forgot()


def _task(job: Job, terms: Terms, board: Any) -> Outcome:
    """Runs inside a Ray worker.

    A task that waits for an answer in its main thread gives its CPUs to others meanwhile: another thread asks.
    """
    import ray

    def ask(method: str, arguments: tuple) -> Any:
        return ray.get(getattr(board, method).remote(*arguments), timeout=max(1.0, terms.lease_s / 4))

    with ThreadPoolExecutor(1) as pool:
        return attempt(job, terms, lambda method, *arguments: pool.submit(ask, method, arguments).result())


def _row(job: Job, out: str) -> Row:
    return Row(job.name, int(job.config().run.steps), step=Store(join(out, job.name)).step())
