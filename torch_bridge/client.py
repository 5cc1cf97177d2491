"""The trainer's end of the bridge. Imports no torch: everything torch does happens in the child process."""

import contextlib
import itertools
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from genreward_jax.errors import UserError
from torch_bridge import shared

_ROOT = str(Path(__file__).resolve().parent.parent)
# Run by the child's interpreter. The project goes to the end of its path: another interpreter keeps its own NumPy.
_START = f"import sys; sys.path.append({_ROOT!r}); from torch_bridge.server import main; main()"


class BridgeError(UserError):
    """The bridge process failed: one readable sentence; the traceback is in the log that it names."""


@dataclass
class BridgeSpec:
    """Which models the bridge serves and how its process runs; the flags under --model and --bridge."""

    family: str = "embedded"
    dtype: str = "float32"
    revision: str = ""
    device: str = "auto"
    python: str = ""
    threads: int = 1
    timeout: float = 600.0
    log_path: str | None = None
    nice: int = 0


@dataclass
class RewardSpec:
    """A reward that runs beside the models: its class, its goal (a dataclass of arrays and strings), its settings."""

    path: str
    goal: Any = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Request:
    message: tuple
    future: Future
    asked: float
    sent: float


class Bridge:
    """The child process with its models, as functions that return futures.

    One thread starts the child, reads its answers and starts it again, once, if it dies: what was asked meanwhile is
    asked again. Requests are answered in the order in which their results are ready.
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
        self._log = spec.log_path or ""
        self._log_is_ours = not spec.log_path
        self._lock = threading.RLock()  # guards what follows, and writing to the socket
        self._pending: dict[int, _Request] = {}
        self._keys = itertools.count()
        self._sock: socket.socket | None = None
        self._process: subprocess.Popen | None = None
        self._thread: threading.Thread | None = None
        self._ready: Future = Future()
        self._broken: BridgeError | None = None
        self._closing = False
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
            # The kernel ends the child when the thread that started it ends: so it must be a thread that stays.
            self._thread = threading.Thread(target=self._supervise, name="bridge", daemon=True)
            self._thread.start()
        if wait:
            self.describe()
        return self

    def close(self) -> None:
        """Ends the child and fails what is still asked."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            if self._sock is not None:
                with contextlib.suppress(OSError):
                    shared.send(self._sock, ("close", -1))
                    self._sock.shutdown(socket.SHUT_WR)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._fail_all(BridgeError("the bridge was closed"))
        if self._log_is_ours and self._log and self._broken is None:
            with contextlib.suppress(OSError):
                os.unlink(self._log)

    def __enter__(self) -> "Bridge":
        return self.start()

    def __exit__(self, *error: Any) -> None:
        self.close()

    # --- what it answers ---

    def call(self, capability: str, argument: Any) -> Future:
        """Asks for encode_video, embed_image, embed_text or embed_state; see ``rewards.base.Models`` for shapes.

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

    def _ask(self, *message: Any) -> Future:
        kind, *arguments = message
        with self._lock:
            key, now = next(self._keys), time.monotonic()
            request = _Request((kind, key, *arguments), Future(), now, now)
            request.future.set_running_or_notify_cancel()  # a request under way cannot be cancelled
            if self._thread is None or self._closing or self._broken:
                request.future.set_exception(self._broken or BridgeError("the bridge is not running"))
                return request.future
            self._requests += 1
            self._pending[key] = request
            if self._ready.done() and self._sock is not None:
                self._send(request)
        return request.future

    def _send(self, request: _Request) -> None:
        request.sent = time.monotonic()
        with contextlib.suppress(OSError):  # a dead child: the supervisor finds out, and sends it again
            self._bytes += shared.send(self._sock, request.message)

    # --- the supervising thread ---

    def _supervise(self) -> None:
        for attempt in range(2):
            try:
                self._spawn()
                ready = self._read()
            except OSError as error:
                self._break(f"the bridge process could not be started with {self._python()!r}: {error}")
                return
            finally:
                status = self._end()
            if self._closing or self._broken:
                self._break_if_waiting()
                return
            how = f"ended by signal {-status}" if status < 0 else f"ended with exit code {status}"
            if attempt or not ready:
                again = "again " if attempt else ""
                self._break(f"the bridge process {again}{how}; its log is {self._log}")
                return
            with self._lock:
                self._restarts += 1
                waiting = len(self._pending)
            self._on_event(f"The bridge process {how}; starting it again (once), {waiting} requests are asked again.")

    def _python(self) -> str:
        return self.spec.python or sys.executable

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        environment = os.environ | {
            "OMP_NUM_THREADS": str(max(1, self.spec.threads)),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "PYTHONUNBUFFERED": "1",
        }
        with theirs, open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [self._python(), "-c", _START, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        options = asdict(self.spec) | {
            "capabilities": self._capabilities,
            "rewards": self._rewards,
        }
        # A user's own reward or goal may lie anywhere that the trainer finds it, if it is the same Python.
        path = [os.getcwd(), *([] if self.spec.python else sys.path)]
        with self._lock:
            self._sock = ours
        with contextlib.suppress(OSError):  # a child that is dead already shows in the reading
            shared.send(ours, path)  # before the options, whose classes it finds
            shared.send(ours, options)

    def _read(self) -> bool:
        """Handles answers until the child is gone; returns whether it had been ready."""
        ready = False
        while True:
            if not select.select([self._sock], [], [], 0.5)[0]:
                self._expire()
                continue
            try:
                (kind, *rest), size = shared.receive(self._sock)
            except EOFError:
                return ready
            self._bytes += size
            if kind == "ready":
                ready = True
                self._on_ready(rest[0])
            elif kind == "failed":
                text, expected = rest
                self._break(text if expected else f"the bridge could not start: {text} (more in {self._log})")
            else:
                self._resolve(kind == "done", *rest)

    def _on_ready(self, description: dict) -> None:
        with self._lock:
            if not self._ready.done():
                self._ready.set_result(description)
            for request in self._pending.values():  # in the order in which they were asked
                self._send(request)

    def _resolve(self, good: bool, key: int, value: Any) -> None:
        with self._lock:
            request = self._pending.pop(key, None)
            if request is None:  # it had timed out
                return
            self._latencies.append(time.monotonic() - request.asked)
        if good:
            request.future.set_result(value)
        else:
            request.future.set_exception(BridgeError(f"{value} (more in {self._log})"))

    def _expire(self) -> None:
        now = time.monotonic()
        with self._lock:
            late = [k for k, r in self._pending.items() if self._ready.done() and now - r.sent > self.spec.timeout]
            requests = [self._pending.pop(k) for k in late]
        for request in requests:
            what = " ".join(str(part) for part in (request.message[0], *request.message[2:3]))
            request.future.set_exception(
                BridgeError(
                    f"no answer from the bridge to {what!r} for {self.spec.timeout:g} s; its log is {self._log}"
                )
            )

    def _end(self) -> int:
        """Closes the socket, waits for the child and returns its status."""
        with self._lock:
            if self._sock is not None:
                self._sock.close()
                self._sock = None
        if self._process is None:
            return 0
        try:
            return self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _break(self, text: str) -> None:
        with self._lock:
            self._broken = self._broken or BridgeError(text)
            if not self._ready.done():
                self._ready.set_exception(self._broken)
        self._fail_all(self._broken)

    def _break_if_waiting(self) -> None:
        if not self._ready.done():
            self._ready.set_exception(self._broken or BridgeError("the bridge was closed"))

    def _fail_all(self, error: BridgeError) -> None:
        with self._lock:
            requests = list(self._pending.values())
            self._pending.clear()
        for request in requests:
            request.future.set_exception(error)
