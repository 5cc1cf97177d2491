"""The bridge process as the trainer sees it: started with its own interpreter, written to, read from, ended."""

import os
import select
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from genreward_jax.stopping import children_spared
from torch_bridge import shared

_ROOT = str(Path(__file__).resolve().parent.parent)
# The project goes to the end of the child's path: another interpreter keeps its own NumPy and torch.
_START = f"import sys; sys.path.append({_ROOT!r}); from torch_bridge.server import main; main()"


class Child:
    """One process of :mod:`torch_bridge.server` at the other end of a socket.

    Neither fork nor multiprocessing: the child does not import the trainer's main module, and JAX's threads are not
    copied. The thread that makes it must live as long as it: the kernel ends the child with that thread.
    """

    def __init__(self, spec: Any, capabilities: set[str], rewards: dict[str, Any], log: str) -> None:
        """Starts it and tells it what to load.

        Raises:
            OSError: The interpreter cannot be run.
        """
        self._sock, theirs = socket.socketpair()
        environment = os.environ | {
            "OMP_NUM_THREADS": str(max(1, spec.threads)),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "PYTHONUNBUFFERED": "1",
        }
        with theirs, open(log, "ab") as output, children_spared():
            self._process = subprocess.Popen(
                [spec.python or sys.executable, "-c", _START, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
            )
        # A user's own reward or goal may lie anywhere that the trainer finds it, if it is the same Python. The path
        # goes before the options, whose classes are looked for there.
        self.send([os.getcwd(), *([] if spec.python else sys.path)])
        self.send(asdict(spec) | {"capabilities": capabilities, "rewards": rewards})

    def send(self, message: Any) -> int:
        """Sends one message and returns its bytes; to a child that is gone, 0: reading will show it.

        Raises:
            OSError: No memory or no descriptor left for the message's arrays.
        """
        try:
            return shared.send(self._sock, message)
        except ConnectionError:
            return 0

    def receive(self, timeout: float) -> tuple[Any, int] | None:
        """The next message and its bytes, or None if none came in ``timeout`` seconds.

        Raises:
            EOFError: The child is gone.
        """
        if not select.select([self._sock], [], [], timeout)[0]:
            return None
        return shared.receive(self._sock)

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()

    def end(self) -> int:
        """Closes the socket, which ends a living child, and waits; its exit status, negative for a signal."""
        self._sock.close()
        try:
            return self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
