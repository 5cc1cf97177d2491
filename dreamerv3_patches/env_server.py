"""The process around one environment: what ``embodied.Driver(parallel=True)`` starts for each.

Imports nothing heavy: the child is spawned (JAX threads live in the parent, a fork would inherit their locks), and
what it imports besides this file is up to the environment.
"""

import pickle
import signal
import traceback
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle
import portal

from genreward_jax.orphans import end_with_parent


class EnvCrash(RuntimeError):
    """An environment's process ended without a word, or failed with an error that cannot travel."""


class Process(portal.Process):
    """portal's, but it ends with a parent that is killed while it starts: portal's own waits at a barrier for ever."""

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
    for number in (signal.SIGINT, signal.SIGTERM):  # Sent to the whole group: the trainer saves, then closes the pipe.
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
