"""The process around one environment of the parallel mode: upstream's own loop, without what it does not need.

Imports nothing heavy by itself: it is spawned, once an environment.
"""

import importlib
import signal
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import cloudpickle
import elements
import numpy as np
import portal

from dreamerv3_patches.env_server import portable
from dreamerv3_patches.proxies import replace_names
from genreward_jax.stopping import FROM_TERMINAL

LOGS, CARRIED = "log/", "carried/"  # upstream's actor sends the replay nothing that is named log/
REPLAY, LOGGER = "the trainer's replay", "the trainer's log"  # in place of addresses


def play(maker: bytes, index: int, args: elements.Config, errors: Any) -> None:
    """Makes an environment and plays in it for ever, as upstream's; an error is sent to the parent.

    Args:
        maker: cloudpickle of a function without arguments that makes the environment.
        index: Number of the environment.
        args: What upstream's ``parallel_env`` reads of its run's arguments.
        errors: End of a pipe to the parent.
    """
    leave_signals_to_parent()
    try:
        upstream = without_jax("embodied.run.parallel")
        replace_names(upstream, "elements", print=lambda *args, **kwargs: None)
        replace_names(upstream, "portal", Client=_client)
        upstream.parallel_env(lambda index: _Carried(cloudpickle.loads(maker)()), index, args)
    except Exception as error:
        errors.send(portable(error, index))


def leave_signals_to_parent() -> None:
    """Ctrl-C and SIGTERM go to the whole group: the trainer saves, then ends its children."""
    for number in FROM_TERMINAL:
        signal.signal(number, signal.SIG_IGN)


def without_jax(name: str) -> ModuleType:
    """Imports a part of upstream that computes nothing; ``embodied`` brings JAX, seconds and 200 MB, whatever is asked.

    Only for a process that never needs the agent.
    """
    sys.modules.setdefault("embodied.jax", ModuleType("embodied.jax", "Left out of an environment's process."))
    return importlib.import_module(name)


class _Carried:
    """An environment whose logs pass upstream's actor, by another name."""

    def __init__(self, env: Any) -> None:
        self.env, self.act_space = env, env.act_space

    def step(self, action: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {key.replace(LOGS, CARRIED): value for key, value in self.env.step(action).items()}


def _client(address: str, *args: Any, **kwargs: Any) -> Any:
    """The actor's client; what upstream's first environment would log of itself goes nowhere."""
    if address == LOGGER:
        return SimpleNamespace(add=lambda figures: None, stats=dict)
    return portal.Client(address, *args, **kwargs)
