"""The bridge process: owns torch, answers the client's messages. Started by ``torch_bridge.client``, never by hand."""

import ctypes
import importlib
import os
import resource
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from genreward_jax.errors import UserError
from torch_bridge import shared

REWARD_THREADS = 8  # they mostly wait for the models' one thread; as many windows can be stacked


def main() -> None:
    """Serves on the socket whose descriptor is the first argument until the other side is gone."""
    sock = socket.socket(fileno=int(sys.argv[1]))
    die_with(parent=int(sys.argv[2]))
    # The trainer decides when training ends, and drains its late rewards first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Each waiting window holds a descriptor of its shared memory, and the usual limit is 1,024.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        path, _ = shared.receive(sock)
        sys.path.extend(p for p in path if p not in sys.path)
        options, _ = shared.receive(sock)
        server = Server(sock, options)
    except EOFError:
        os._exit(0)
    except Exception as error:
        traceback.print_exc()
        shared.send(sock, ("failed", sentence(error), isinstance(error, UserError)))
        os._exit(1)
    status = 1
    try:
        server.serve()
        status = 0
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(status)  # threads may be in the middle of a model call that nobody waits for any more


def die_with(parent: int) -> None:
    """Asks the kernel for SIGKILL when the trainer dies, however it dies."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        os._exit(0)


def sentence(error: BaseException) -> str:
    """An error as one readable line."""
    if isinstance(error, UserError):
        return str(error)
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


class Server:
    """Models, rewards and the loop that reads messages. Answers are sent from the threads that have them."""

    def __init__(self, sock: socket.socket, options: dict[str, Any]) -> None:
        """Loads everything that was asked for.

        Raises:
            UserError: A model or a reward class that cannot be loaded.
        """
        self._sock, self._sending = sock, threading.Lock()
        if options["nice"]:
            os.nice(options["nice"])

        self._options = options
        self._models: Any = None
        self._batcher: Any = None
        if not options["bare"]:
            self._load(options["capabilities"])
        self._rewards: dict[str, Any] = {}
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._pool = ThreadPoolExecutor(REWARD_THREADS, "reward")
        for name, spec in options["rewards"].items():
            self._add(name, spec)

    def serve(self) -> None:
        """Answers until the client closes, or is gone."""
        models = {} if self._models is None else self._models.describe()
        self._send("ready", models | {"pid": os.getpid(), "python": sys.version.split()[0]})
        while True:
            try:
                (kind, key, *arguments), _ = shared.receive(self._sock)
            except EOFError:
                return
            if kind == "call":
                self._call(key, *arguments)
            elif kind == "reward":
                self._pools.get(arguments[0], self._pool).submit(self._answer, key, self._reward, *arguments)
            elif kind == "add":
                self._answer(key, self._add, *arguments)
            elif kind == "release":
                self._answer(key, self._models.release, set(arguments[0]) | self._needs())
            elif kind == "close":
                return

    def _load(self, capabilities: Iterable[str]) -> None:
        """Loads what is not loaded yet of the models behind capabilities; torch with the first."""
        if self._models is not None:
            self._models.load(capabilities)
            return
        options = self._options
        import torch

        torch.set_num_threads(max(1, options["threads"]))
        from torch_bridge.batching import Batcher
        from torch_bridge.models import ModelSet

        where = {key: options[key] for key in ("family", "dtype", "device", "revision", "models")}
        self._models = ModelSet(capabilities=capabilities, say=partial(self._send, "note"), **where)
        self._batcher = Batcher(self._models.call, options["remember"])

    def _needs(self) -> set[str]:
        return {name for reward in self._rewards.values() for name in reward.needs}

    def _add(self, name: str, spec: Any) -> None:
        reward = load_reward(name, spec)
        if reward.needs:
            try:
                self._load(reward.needs)
            except ModuleNotFoundError as error:
                raise UserError(
                    f"the reward {name!r} needs {', '.join(reward.needs)}, for which {sys.executable} lacks "
                    f"{error.name}: install it there, or do without --bridge.python"
                ) from error
        self._rewards[name] = reward
        # A reward with a memory is called one at a time, in order; the others side by side.
        self._pools[name] = ThreadPoolExecutor(1, name) if _has_memory(reward) else self._pool

    def _call(self, key: int, capability: str, argument: Any) -> None:
        def done(future):
            self._answer(key, future.result)

        try:
            self._batcher.submit(capability, argument).add_done_callback(done)
        except Exception as error:
            self._fail(key, sentence(error))

    def _reward(self, name: str, method: str, argument: Any) -> Any:
        """Runs one method of a reward: its call on a window, or a method of its memory."""
        reward = self._rewards.get(name)
        if reward is None:
            raise UserError(f"the bridge has no reward {name!r}")
        try:
            if method == "__call__":
                return reward(argument, Served(self._batcher, name, reward.needs))
            return getattr(reward, method)(*(() if argument is None else (argument,)))
        except UserError:
            raise
        except Exception as error:
            traceback.print_exc()
            raise UserError(f"the reward {name!r} ({type(reward).__name__}) failed: {sentence(error)}") from error

    def _answer(self, key: int, function: Callable, *arguments: Any) -> None:
        try:
            self._send("done", key, function(*arguments))
        except Exception as error:
            if not isinstance(error, UserError):
                traceback.print_exc()
            self._fail(key, sentence(error))

    def _fail(self, key: int, text: str) -> None:
        self._send("error", key, text)

    def _send(self, *message: Any) -> None:
        try:
            with self._sending:
                shared.send(self._sock, message)
        except OSError:
            pass  # the client is gone; the reading loop sees it too
        sys.stderr.flush()


class Served:
    """What a reward sees of the models: the capabilities it named in ``needs``, one call each, batched below."""

    def __init__(self, batcher: Any, name: str, needs: tuple[str, ...]) -> None:
        self._batcher, self._name, self._needs = batcher, name, needs

    def __getattr__(self, capability: str) -> Callable[[Any], Any]:
        if capability not in self._needs:
            named = ", ".join(self._needs) or "nothing"
            raise UserError(f"the reward {self._name!r} uses {capability} but names {named} in its `needs`")
        return lambda argument: self._batcher.submit(capability, argument).result()


def load_reward(name: str, spec: Any) -> Any:
    """Makes the reward object of a RewardSpec.

    Raises:
        UserError: No such module or class, or a constructor that fails.
    """
    module, _, cls = spec.path.partition(":")
    try:
        made = getattr(importlib.import_module(module), cls)(spec.goal, **spec.settings)
    except Exception as error:
        traceback.print_exc()
        raise UserError(f"the reward {name!r} could not be made from {spec.path!r}: {sentence(error)}") from error
    if not callable(made) or not hasattr(made, "needs"):
        raise UserError(f"{spec.path!r} is no reward: derive it from genreward_jax.rewards.base.Reward")
    return made


def _has_memory(reward: Any) -> bool:
    from genreward_jax.rewards.base import Reward

    return getattr(type(reward), "observe", Reward.observe) is not Reward.observe


if __name__ == "__main__":
    main()
