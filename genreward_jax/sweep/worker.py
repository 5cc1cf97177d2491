"""One attempt at a run, inside a Ray task: from where its files are to where they belong."""

import hashlib
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genreward_jax.sweep.board import STOP
from genreward_jax.sweep.child import Ended, environment, reached, reason, train
from genreward_jax.sweep.lease import Gone, Lease
from genreward_jax.sweep.mirror import Mirror
from genreward_jax.sweep.plan import Job, is_done
from genreward_jax.sweep.storage import is_url, join

SEEN_S = 90.0  # until a file is seen on another node: network file systems remember that it was not there
STORE_TRIES = 5  # of the last bringing up, with longer and longer pauses
FAILED, FINISHED, REFUSED, STOPPED, DIED = "failed", "finished", "refused", "stopped", "died"


@dataclass(frozen=True)
class Terms:
    """What all attempts of a sweep have in common.

    Attributes:
        out: Folder or URL of all runs.
        cwd: Where relative paths in flags begin; used where a node has it.
        lease_s: See board.py.
        num_cpus, num_gpus: A run's share.
        env: Variables that a node's own environment may lack.
        command: The training's command line before the flags; () is ours, by the node's own Python.
        mark: A file in ``out``, where that is a folder: a node that does not see it has another folder of that name.
    """

    out: str
    cwd: str
    lease_s: float
    num_cpus: float
    num_gpus: float
    env: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    mark: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt: FINISHED, STOPPED (it was asked to), FAILED, REFUSED (a user's mistake), or DIED.

    The last is said by the sweep and not by the attempt. Only FAILED is tried again.
    """

    kind: str
    why: str = ""
    step: int = 0


def attempt(job: Job, terms: Terms, call: Callable[..., Any]) -> Outcome:
    """Trains a run from where it is, until it ends, fails or is stopped.

    Where the lease is lost this process ends at once and its training with it: to Ray a worker that died.

    Args:
        call: As :class:`Lease` wants it.
    """
    lease = Lease(call, job.name, terms.lease_s)
    place = join(terms.out, job.name)
    try:
        if lease.begin() == STOP:
            outcome = Outcome(STOPPED)
        else:
            outcome = _far(job, place, terms, lease) if is_url(place) else _here(job, Path(place), terms, lease)
    except Gone as gone:
        print(f"{job.name}: {gone}; its training is ended.", file=sys.stderr, flush=True)
        os._exit(1)
    except Exception as error:
        outcome = Outcome(FAILED, f"its files could not be handled ({type(error).__name__}: {error})")
    lease.end(outcome.step)
    return outcome


def _here(job: Job, folder: Path, terms: Terms, lease: Lease) -> Outcome:
    """A run in a folder that every node sees."""
    end = time.monotonic() + SEEN_S
    while not Path(terms.out, terms.mark).exists():
        if time.monotonic() > end:
            what = f"the folder {terms.out} of {socket.gethostname()} is not the one that the sweep began with"
            return Outcome(REFUSED, f"{what}; name one that all nodes share, or a URL.")
        lease.report(note="waiting to see the output")
        time.sleep(lease.pause_s)
    if is_done(folder, job):
        return Outcome(FINISHED, step=reached(folder))
    log = Path(join(terms.out, log_name(job.name)))
    return judge(job, folder, log, _train(job, folder, log, terms, lease), str(log))


def _far(job: Job, place: str, terms: Terms, lease: Lease) -> Outcome:
    """A run in a local folder, brought up at each checkpoint and at the end, whatever the end."""
    scratch = Path(tempfile.gettempdir(), "genreward-sweep", hashlib.sha256(terms.out.encode()).hexdigest()[:12])
    folder, log = scratch / job.name, scratch / log_name(job.name)
    mirror = Mirror(folder, place, lease.holds)
    with ThreadPoolExecutor(1) as pool:
        _wait(pool.submit(mirror.down), lease, "fetching")
        if is_done(folder, job):
            return Outcome(FINISHED, step=reached(folder))
        log.unlink(missing_ok=True)
        said = _train(job, folder, log, terms, lease, _Storing(pool, mirror))
        outcome = judge(job, folder, log, said, join(terms.out, log_name(job.name)))
        _wait(pool.submit(_store, mirror, log, join(terms.out, log_name(job.name))), lease, "storing")
    shutil.rmtree(folder, ignore_errors=True)
    log.unlink(missing_ok=True)
    return outcome


def _train(
    job: Job, folder: Path, log: Path, terms: Terms, lease: Lease, beside: Callable[[], str] = lambda: ""
) -> Ended:
    ours = (sys.executable, "-m", "genreward_jax", "train")
    command = [*(terms.command or ours), *job.flags, "--run.progress", "False", "--logdir", str(folder)]
    env = environment(terms.env, terms.num_gpus, float(job.config().bridge.memory_share))
    cwd = terms.cwd if Path(terms.cwd).is_dir() else os.getcwd()
    return train(command, folder, log, env, cwd, int(terms.num_cpus), lease, beside)


def judge(job: Job, folder: Path, log: Path, ended: Ended, shown: str) -> Outcome:
    """What an attempt comes to.

    Args:
        folder: The run directory, local.
        log: What the training said, local.
        ended: How it ended.
        shown: Where the user finds the log.
    """
    step = reached(folder)
    if ended.code == 0 and is_done(folder, job):
        return Outcome(FINISHED, step=step)
    if ended.code == 2:
        return Outcome(REFUSED, reason(log, 2), step)
    if ended.told:
        return Outcome(STOPPED, step=step)
    why = "something else stopped it before its end" if ended.code == 0 else reason(log, ended.code)
    return Outcome(FAILED, f"{why}; all it said is in {shown}", step)


def log_name(name: str) -> str:
    """Where under the output a run's words are kept: its own folder takes only what a run writes."""
    return f"logs/{name.replace('/', '__')}.log"


class _Storing:
    """Brings a run up whenever its checkpoint is another; called now and then, gives a note for the table."""

    def __init__(self, pool: ThreadPoolExecutor, mirror: Mirror) -> None:
        self.pool, self.mirror = pool, mirror
        self.pointer, self.note = mirror.pointer(), ""
        self.going: Future | None = None

    def __call__(self) -> str:
        if self.going is not None and self.going.done():
            failed = self.going.exception() is not None
            self.note = "could not be stored, tried again" if failed else ""
            self.pointer = "" if failed else self.pointer
            self.going = None
        if self.going is None and self.mirror.pointer() != self.pointer:
            self.pointer = self.mirror.pointer()
            self.going = self.pool.submit(self.mirror.up)
        return self.note


def _store(mirror: Mirror, log: Path, place: str) -> None:
    """The last bringing up, with what the training said."""
    for number in range(STORE_TRIES):
        try:
            mirror.up()
            mirror.keep(log, place)
            return
        except Exception:
            if number == STORE_TRIES - 1:
                raise
            time.sleep(5 * 2**number)


def _wait(work: Future, lease: Lease, note: str) -> None:
    """Waits for some work while the lease is kept."""
    while not work.done():
        lease.report(note=note)
        time.sleep(lease.pause_s)
    work.result()
