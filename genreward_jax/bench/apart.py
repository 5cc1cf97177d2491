"""Objects in processes of their own: for variants that exclude each other, or that memory cannot hold at once."""

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class Apart:
    """An object that another process makes and keeps; its methods are called there, one at a time.

    The process is started at once; :meth:`wait` says when the object is made, so that several can be made beside each
    other. Making and calls raise RuntimeError here for what failed there, with what it said, and for a killed process.

    Args:
        make: Function of a module that makes the object.
        arguments: What it is called with.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._made = False

    def wait(self) -> None:
        """Returns when the object is made."""
        if not self._made:
            self._answer()
            self._made = True

    def call(self, method: str, *arguments: Any) -> Any:
        """What the object's method gives for these arguments."""
        self.wait()
        self._pipe.send((method, arguments))
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()

    def __enter__(self) -> "Apart":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _answer(self) -> Any:
        try:
            worked, answer = self._pipe.recv()
        except EOFError:
            self._process.join(10)
            code = self._process.exitcode
            why = ", most likely for want of memory" if code == -9 else ""
            raise RuntimeError(f"the measuring process was killed (exit code {code}){why}") from None
        if not worked:
            raise RuntimeError(answer)
        return answer


def _serve(pipe: Connection, make: Callable[..., Any], arguments: tuple) -> None:
    try:
        made = make(*arguments)
        pipe.send((True, None))
        while True:
            method, given = pipe.recv()
            pipe.send((True, getattr(made, method)(*given)))
    except EOFError:
        if hasattr(made, "close"):
            made.close()
    except Exception:
        pipe.send((False, traceback.format_exc()))
