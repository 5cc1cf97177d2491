"""One sweep command at an output at a time: a file there that its owner renews."""

import json
import os
import socket
import time
import uuid
from pathlib import Path
from typing import Any

import psutil

from genreward_jax.errors import UserError
from genreward_jax.rundir import write_text
from genreward_jax.sweep.storage import Store, is_url, join, open_url

NAME = "sweep.json"
RENEW_S, STALE_S = 30.0, 120.0


class Claim:
    """Held from :meth:`take` to :meth:`drop`.

    Args:
        out: The output's folder or URL.
    """

    def __init__(self, out: str) -> None:
        self.out, self.token, self.renewed = out, uuid.uuid4().hex, 0.0

    def take(self) -> None:
        """Claims the output.

        Raises:
            UserError: Another command that is alive has it, or it cannot be written.
        """
        other = self._read()
        if other and _lives(other):
            raise UserError(
                f"Another sweep is at work in {self.out} (process {other.get('pid')} on {other.get('host')}): wait for "
                f"it, stop it, or name another output; if it was killed, try again in {STALE_S / 60:.0f} minutes."
            )
        self._write()

    def renew(self) -> bool:
        """Says now and then that the owner lives; False if another has claimed the output meanwhile."""
        if time.monotonic() - self.renewed < RENEW_S:
            return True
        other = self._read()
        if other and other.get("token") != self.token:
            return False
        self._write()
        return True

    def drop(self) -> None:
        """Gives the output free, if it is still ours."""
        if (self._read() or {}).get("token") != self.token:
            return
        if is_url(self.out):
            filesystem, root = open_url(self.out)
            filesystem.rm_file(f"{root}/{NAME}")
        else:
            Path(self.out, NAME).unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        try:
            found = json.loads(Store(self.out).read(NAME) or "null")
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def _write(self) -> None:
        me = {"token": self.token, "host": socket.gethostname(), "pid": os.getpid(), "time": time.time()}
        text = json.dumps({**me, "began": psutil.Process().create_time()}) + "\n"
        try:
            if is_url(self.out):
                filesystem, root = open_url(self.out)
                filesystem.makedirs(root, exist_ok=True)
                filesystem.pipe_file(f"{root}/{NAME}", text.encode())
            else:
                write_text(Path(self.out, NAME), text)
        except UserError:
            raise
        except Exception as error:  # of many kinds, each store has its own
            raise UserError(f"{join(self.out, NAME)} cannot be written ({error}); name another output.") from None
        self.renewed = time.monotonic()


def _lives(other: dict[str, Any]) -> bool:
    """Whether a claim's owner is at work: its process is there, or it has renewed the claim lately."""
    if other.get("host") == socket.gethostname():
        try:
            return abs(psutil.Process(int(other["pid"])).create_time() - float(other["began"])) < 1
        except (psutil.Error, KeyError, ValueError, TypeError):
            return False
    return time.time() - float(other.get("time") or 0) < STALE_S
