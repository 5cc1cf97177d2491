"""The process around one environment: what ``embodied.Driver(parallel=True)`` starts for each.

Imports nothing heavy: the child is spawned (JAX threads live in the parent, a fork would inherit their locks), and
what it imports besides this file is up to the environment.
"""

import pickle
import signal
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle
import portal

from genreward_jax.orphans import end_with_parent
from genreward_jax.stopping import FROM_TERMINAL, children_spared


class EnvCrash(RuntimeError):
    """An environment's process ended without a word, or failed with an error that cannot travel."""


class Process(portal.Process):
    """portal's, whose parent and child wait for each other at a barrier while the child starts, and for ever:

    - the child ends with a parent that is killed meanwhile;
    - the parent hears of a child that ends meanwhile, by :class:`EnvCrash`;
    - Ctrl-C and SIGTERM, which come to the whole group, do not end a child that cannot ignore them yet.
    """

    def start(self) -> "Process":
        over = threading.Event()
        threading.Thread(target=self._break_barrier, args=(over,), name="barrier", daemon=True).start()
        try:
            with children_spared():
                return super().start()
        except threading.BrokenBarrierError:
            code = self.process.exitcode
            raise EnvCrash(f"a process for an environment ended while it started, exit code {code}") from None
        finally:
            over.set()

    def _break_barrier(self, over: threading.Event, look_every: float = 0.2) -> None:
        while not over.wait(look_every):
            if self.process.pid is not None and not self.process.is_alive():
                return self.ready.abort()

    @staticmethod
    def _wrapper(*args: Any) -> None:
        end_with_parent()
        portal.Process._wrapper(*args)


def serve(index: int, pipe: Connection, ctor: bytes) -> None:
    """Makes the environment and answers the driver's messages until its end of the pipe closes.

    Args:
        index: Number of the environment, for messages.
        pipe: Requests ``('step', action)``, ``('obs_space',)``, ``('act_space',)`` come in, ``('result', value)`` or
            ``('error', exception)`` go out. Waiting blocks: no polling, no sleeping.
        ctor: cloudpickle of a function without arguments that makes the environment.
    """
    for number in FROM_TERMINAL:  # Sent to the whole group: the trainer saves, then closes the pipe.
        signal.signal(number, signal.SIG_IGN)
    env = None
    try:
        env = cloudpickle.loads(ctor)()
        while True:
            message, *args = pipe.recv()
            if message == "step":
                pipe.send(("result", env.step(*args)))
            elif message in ("obs_space", "act_space"):
                pipe.send(("result", getattr(env, message)))
            else:
                raise ValueError(f"environment {index} got the unknown message {message!r}")
    except (EOFError, ConnectionError):
        pass  # The driver is gone, or closed us.
    except Exception as error:
        pipe.send(("error", portable(error, index)))
    finally:
        try:
            env is None or env.close()
        except Exception:
            traceback.print_exc()
        pipe.close()


def portable(error: Exception, index: int) -> Exception:
    """The error itself with the child's traceback as a note; an :class:`EnvCrash` if it cannot be pickled."""
    text = "".join(traceback.format_exception(error)).rstrip()
    try:
        copy = pickle.loads(pickle.dumps(error))
        if type(copy) is not type(error):
            raise TypeError
    except Exception:
        error = EnvCrash(f"environment {index}: {type(error).__name__}: {error}")
    if hasattr(error, "add_note"):
        error.add_note(f"in the process of environment {index}:\n{text}")
    return error
