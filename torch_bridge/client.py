"""The trainer's end of the bridge. Imports no torch: everything torch does happens in the child process."""

import atexit
import contextlib
import itertools
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch_bridge.child import Child
from torch_bridge.spec import BridgeError, BridgeSpec, RewardSpec

__all__ = ["Bridge", "BridgeError", "BridgeSpec", "RewardSpec"]

_CLOSING = 3.0  # seconds that a closed child may take


@dataclass
class _Request:
    message: tuple
    future: Future
    asked: float
    sent: float
    sent_to: Child | None = None  # so that none is asked twice of one child


class Bridge:
    """The child process with its models, as functions that return futures.

    One thread starts the child, reads its answers and starts it again, once, if it dies: what was asked meanwhile is
    asked again. Requests are answered in the order in which their results are ready, and callbacks of their futures
    run on that thread: they must not wait for the bridge.
    """

    def __init__(
        self,
        spec: BridgeSpec,
        capabilities: Iterable[str],
        rewards: dict[str, RewardSpec] | None = None,
        on_event: Callable[[str], None] = print,
    ) -> None:
        self.spec = spec
        self._capabilities = set(capabilities)
        self._rewards = dict(rewards or {})
        self._on_event = on_event
        self._log, self._log_may_go = spec.log_path or "", not spec.log_path
        self._lock = threading.RLock()  # guards what follows
        self._writing = threading.Lock()  # held apart, so that answers are read while a full socket makes a sender wait
        self._pending: dict[int, _Request] = {}
        self._keys = itertools.count()
        self._child: Child | None = None
        self._up = False  # the child reads requests
        self._thread: threading.Thread | None = None
        self._ready: Future = Future()
        self._broken: BridgeError | None = None
        self._closed_at: float | None = None
        self._restarts = self._requests = self._bytes = 0
        self._latencies: deque[float] = deque(maxlen=512)

    # --- life ---

    def start(self, wait: bool = True) -> "Bridge":
        """Starts the child; with ``wait`` returns when its models are loaded.

        Raises:
            BridgeError: It could not start, with the sentence that says why (a missing model, say).
        """
        if self._thread is None:
            if not self._log:
                handle, self._log = tempfile.mkstemp(prefix="genreward-bridge-", suffix=".log")
                os.close(handle)
            Path(self._log).parent.mkdir(parents=True, exist_ok=True)
            self._thread = threading.Thread(target=self._supervise, name="bridge", daemon=True)
            self._thread.start()
            atexit.register(self.close)
        if wait:
            self.describe()
        return self

    def close(self) -> None:
        """Ends the child and fails what is still asked."""
        with self._lock:
            if self._closed_at is not None:
                return
            self._closed_at, child, up = time.monotonic(), self._child, self._up
        atexit.unregister(self.close)
        if child is not None and up:
            with self._writing:
                child.send(("close", -1))
        elif child is not None:  # still loading: nobody would read it
            child.kill()
        if self._thread is not None:
            self._thread.join()
        self._fail_all(BridgeError("the bridge was closed"))
        if self._log_may_go and self._log:
            with contextlib.suppress(OSError):
                os.unlink(self._log)

    def __enter__(self) -> "Bridge":
        return self.start()

    def __exit__(self, *error: Any) -> None:
        self.close()

    # --- what it answers ---

    def call(self, capability: str, argument: Any) -> Future:
        """Asks for one of the capabilities whose shapes :class:`genreward_jax.rewards.base.Models` gives.

        The future's array lies in shared memory that is its own, so :func:`torch_bridge.dlpack.to_jax` need not copy.
        """
        return self._ask("call", capability, argument)

    def pay(self, name: str, window: Any) -> Future:
        """Has the reward ``name`` look at a ``Window``; the future holds its ``Payment``."""
        return self.tell(name, "__call__", window)

    def tell(self, name: str, method: str, argument: Any = None) -> Future:
        """Calls ``observe(rows)``, ``state()`` or ``load(state)`` of a reward with a memory.

        A restart makes rewards anew: their memory is then as at the start.
        """
        if name not in self._rewards:
            raise BridgeError(f"the bridge has no reward {name!r}: it has {', '.join(self._rewards) or 'none'}")
        return self._ask("reward", name, method, argument)

    def add_reward(self, name: str, spec: RewardSpec) -> None:
        """Makes a reward in the running bridge, with the models it needs; waits until it is there.

        Raises:
            BridgeError: Its class cannot be found or made.
        """
        self._rewards[name] = spec  # also for a restart
        try:
            self._ask("add", name, spec).result()
        except BridgeError:
            del self._rewards[name]
            raise

    def release(self, keep: Iterable[str]) -> None:
        """Drops the models whose capabilities are neither in ``keep`` nor needed by a reward; waits until done."""
        self._capabilities &= set(keep)
        self._ask("release", sorted(self._capabilities)).result()

    @property
    def frame_size(self) -> int:
        """Height and width in pixels at which the models want frames."""
        return int(self.describe()["frame_size"])

    def describe(self) -> dict[str, Any]:
        """Family, folders, classes, frame size, dtype, device, versions, pid; waits for the start."""
        if self._thread is None:
            raise BridgeError("the bridge was not started")
        return dict(self._ready.result())

    def stats(self) -> dict[str, float]:
        """Requests and restarts so far, bytes both ways, and the median latency of the last answers in ms."""
        with self._lock:
            median = 1e3 * statistics.median(self._latencies) if self._latencies else 0.0
            return {
                "requests": self._requests,
                "restarts": self._restarts,
                "pending": len(self._pending),
                "latency_ms": median,
                "bytes": self._bytes,
            }

    def _ask(self, kind: str, *arguments: Any) -> Future:
        with self._lock:
            key, now = next(self._keys), time.monotonic()
            request = _Request((kind, key, *arguments), Future(), now, now)
            request.future.set_running_or_notify_cancel()  # a request under way cannot be cancelled
            if self._thread is None or self._closed_at is not None or self._broken:
                request.future.set_exception(self._broken or BridgeError("the bridge is not running"))
                return request.future
            self._requests += 1
            self._pending[key] = request
            up = self._up
        if up:
            self._send(request)
        return request.future

    def _send(self, request: _Request) -> None:
        with self._writing:
            child = self._child
            if child is None or request.sent_to is child or request.future.done():
                return
            request.sent, request.sent_to = time.monotonic(), child
            try:
                self._bytes += child.send(request.message)
                return
            except OSError as error:
                failed = BridgeError(f"the bridge could not be asked: {error}")
        with self._lock:
            gone = self._pending.pop(request.message[1], None) is None
        if not gone:
            request.future.set_exception(failed)

    # --- the supervising thread ---

    def _supervise(self) -> None:
        """Starts the child, and after its first death once more; whatever ends it, no future is left without answer."""
        try:
            for attempt in range(2):
                how, was_ready = self._live()
                if self._closed_at is not None or self._broken:
                    break
                if attempt or not was_ready:
                    self._break(f"the bridge process {how}{' again' * attempt}; {self._see_log()}")
                    break
                with self._lock:
                    self._restarts += 1
                    waiting = len(self._pending)
                self._on_event(
                    f"The bridge process {how}; starting it again, once ({waiting} waiting requests are asked again)."
                )
        except OSError as error:
            python = self.spec.python or sys.executable
            self._break(f"the bridge process could not be started with {python!r}: {error}")
        except BaseException as error:
            self._break(f"the bridge failed: {error!r}")
            raise
        finally:
            if not self._ready.done():
                self._ready.set_exception(self._broken or BridgeError("the bridge was closed"))

    def _live(self) -> tuple[str, bool]:
        """One child from start to end: how it ended, in words, and whether it had been ready."""
        child = Child(self.spec, self._capabilities, self._rewards, self._log)
        with self._lock, self._writing:
            self._child = child
        try:
            while (item := self._next(child)) is not None:
                self._handle(*item)
        finally:
            with self._lock:
                was_ready, self._up = self._up, False
            with self._writing:
                self._child = None
            status = child.end()
        return (f"ended by signal {-status}" if status < 0 else f"ended with exit code {status}"), was_ready

    def _next(self, child: Child) -> tuple | None:
        """The child's next message; None when it is gone."""
        while True:
            try:
                received = child.receive(timeout=0.5)
            except EOFError:
                return None
            if received is not None:
                self._bytes += received[1]
                return received[0]
            self._expire()
            if self._closed_at is not None and time.monotonic() - self._closed_at > _CLOSING:
                child.kill()

    def _handle(self, kind: str, *content: Any) -> None:
        if kind == "ready":
            with self._lock:
                self._up = True
                waiting = list(self._pending.values())  # in the order in which they were asked
                if not self._ready.done():
                    self._ready.set_result(content[0])
            for request in waiting:
                self._send(request)
        elif kind == "note":
            self._on_event(content[0])
        elif kind == "failed":
            text, expected = content
            self._break(text if expected else f"the bridge could not start: {text} ({self._see_log()})")
        else:
            key, value = content
            with self._lock:
                request = self._pending.pop(key, None)
                if request is None:  # it had timed out
                    return
                self._latencies.append(time.monotonic() - request.asked)
            if kind == "done":
                request.future.set_result(value)
            else:
                request.future.set_exception(BridgeError(f"{value} ({self._see_log()})"))

    def _expire(self) -> None:
        now = time.monotonic()
        with self._lock:
            late = [k for k, r in self._pending.items() if self._ready.done() and now - r.sent > self.spec.timeout]
            requests = [self._pending.pop(k) for k in late]
        for request in requests:
            what = " ".join(str(part) for part in (request.message[0], *request.message[2:3]))
            text = f"no answer from the bridge to {what!r} for {self.spec.timeout:g} s; {self._see_log()}"
            request.future.set_exception(BridgeError(text))

    def _see_log(self) -> str:
        self._log_may_go = False  # somebody is sent there
        return f"see {self._log}"

    def _break(self, text: str) -> None:
        with self._lock:
            self._broken = self._broken or BridgeError(text)
            if not self._ready.done():
                self._ready.set_exception(self._broken)
        self._fail_all(self._broken)

    def _fail_all(self, error: BridgeError) -> None:
        with self._lock:
            requests = list(self._pending.values())
            self._pending.clear()
        for request in requests:
            request.future.set_exception(error)
