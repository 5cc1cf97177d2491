"""Started by a Ray worker in front of a training, whose process it becomes: ``launch.py PARENT CORES command ...``.

The training is to end with its worker, however that ends; to hear Ctrl-C, which Ray blocks in its processes; and to
keep to its share of the cores. Only the standard library, and nothing of ours: this costs every run its start.
"""

import ctypes
import fcntl
import os
import signal
import sys
import tempfile
from pathlib import Path

PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """This process and the program it becomes are killed when the parent is gone. Linux only; else nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before
        os._exit(1)


def take_cores(count: int, folder: Path) -> list[int]:
    """Keeps this process to ``count`` cores that no other run on this machine has taken; [] where that fails.

    A core is taken by a lock on its file, which goes with the process and its children.
    """
    usable = sorted(os.sched_getaffinity(0))
    if not 0 < count < len(usable):
        return []
    folder.mkdir(parents=True, exist_ok=True)
    taken = {}
    for core in usable:
        handle = os.open(folder / str(core), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            continue
        taken[core] = handle
        if len(taken) == count:
            os.sched_setaffinity(0, taken)
            for handle in taken.values():
                os.set_inheritable(handle, True)
            return list(taken)
    for handle in taken.values():
        os.close(handle)
    return []


def main(parent: str, cores: str, *command: str) -> None:
    """Becomes the command."""
    end_with(int(parent))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    if hasattr(os, "sched_setaffinity"):
        try:
            take_cores(int(cores), Path(tempfile.gettempdir()) / f"genreward-cores-{os.getuid()}")
        except OSError:
            pass  # a machine that lets nobody choose cores trains all the same
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
