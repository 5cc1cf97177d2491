"""A training as a child process of a Ray worker: started, watched, stopped politely, and what it said."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import genreward_jax
from genreward_jax.sweep import launch
from genreward_jax.sweep.board import STOP
from genreward_jax.sweep.lease import Lease

LOCK_S = 120.0  # how long a run directory may stay locked by a training that is being killed
SAVE_S = 600.0  # how long a training may take to save once it was told to stop
TAIL = 16384  # bytes of a file's end that are looked at


@dataclass(frozen=True)
class Ended:
    """How a training ended: its exit code (negative: the signal), and whether it had been told to stop."""

    code: int
    told: bool


def train(
    command: list[str], folder: Path, log: Path, env: dict[str, str], cwd: str, cores: int, lease: Lease,
    beside: Callable[[], str] = lambda: "",
) -> Ended:  # fmt: skip
    """Runs a training to its end, or until the board says to stop.

    Args:
        command: The training's command line.
        folder: Its run directory, whose lock is waited for.
        log: What it says is added to this file.
        env: Its environment.
        cwd: Its working directory.
        cores: How many of the machine's cores it may have.
        lease: Reported to all the while.
        beside: Called now and then; gives a note for the table.

    Raises:
        Gone: The lease is lost; the training has been killed.
    """
    _wait_for_lock(folder, lease)
    log.parent.mkdir(parents=True, exist_ok=True)
    start = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), str(cores), *command]
    told = 0.0
    lease.report(note="starting")  # what came before may have taken long
    with log.open("ab") as said:
        said.write(f"\n$ {' '.join(command)}\n".encode())
        said.flush()
        child = subprocess.Popen(
            start, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
        try:
            while (code := child.poll()) is None:
                note = beside()
                if lease.report(reached(folder), "saving" if told else note) == STOP and not told:
                    told = time.monotonic()
                    child.send_signal(signal.SIGINT)
                if told and time.monotonic() - told > SAVE_S:
                    break
                with suppress(subprocess.TimeoutExpired):
                    child.wait(lease.pause_s)
        finally:
            with suppress(ProcessLookupError):  # its environments and its models as well
                os.killpg(child.pid, signal.SIGKILL)
            code = child.wait()
    return Ended(code, bool(told))


def _wait_for_lock(folder: Path, lease: Lease) -> None:
    """Waits while another process holds the run directory: one before, which is being killed."""
    end = time.monotonic() + LOCK_S
    while time.monotonic() < end:
        try:
            with (folder / "run.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
        except FileNotFoundError:
            return
        except OSError:
            lease.report(note="waiting for the one before to end")
            time.sleep(lease.pause_s)


def environment(env: dict[str, str], num_gpus: float, memory_share: float) -> dict[str, str]:
    """A training's variables: the node's own, what it lacks of ``env``, our code, and its part of a shared GPU.

    Args:
        memory_share: The part of a run's GPU memory that its models have.
    """
    found = {**env, **os.environ}
    root = str(Path(genreward_jax.__file__).resolve().parent.parent)
    found["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [found.get("PYTHONPATH")])])
    if 0 < num_gpus < 1:
        found.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{num_gpus * (0.95 - memory_share):.3f}")
    return found


def reached(folder: Path) -> int:
    """The last step that a run directory tells of; 0 for none."""
    steps = [0]
    for name in ("scores.jsonl", "metrics.jsonl"):
        for line in tail(folder / name).splitlines()[-3:]:
            with suppress(ValueError, KeyError, TypeError):
                steps.append(int(json.loads(line)["step"]))
    with suppress(OSError, ValueError):
        steps.append(int((folder / "checkpoint" / "latest").read_text()))
    return max(steps)


def reason(log: Path, code: int) -> str:
    """Why a training ended with an exit code, in a sentence's length, from what it said last."""
    text = tail(log)
    if code == 2 and "genreward_jax: " in text:
        return " ".join(text.rpartition("genreward_jax: ")[2].split())
    if code < 0:
        name = signal.Signals(-code).name
        return f"it was killed by {name}{', as where memory runs out' * (name == 'SIGKILL')}"
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("$ ")]
    return f"it ended with exit code {code}{f' ({lines[-1][:300]})' if lines else ''}"


def tail(file: Path) -> str:
    """The end of a file; '' if it is not there."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - TAIL))
            return stream.read().decode(errors="replace")
    except OSError:
        return ""
