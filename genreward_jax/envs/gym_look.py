"""What a Gymnasium environment observes, does and shows, found out by a process of its own.

The trainer never opens the environment: neither the user's module nor a renderer is loaded beside JAX.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import elements
import numpy as np

from genreward_jax.errors import UserError

PATIENCE = 300.0  # seconds for an environment to be imported, made and reset
# Not multiprocessing: its children run the main script again, which a user's own script or a notebook need not bear.
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from genreward_jax.envs.gym_look import main; main()"


@dataclass(frozen=True)
class Look:
    """What :func:`look` found.

    Attributes:
        obs: The agent's observations, without the row's own entries.
        act: The agent's action.
        limit: Environment steps of an episode at most; 0 where that is unknown.
        picture: (height, width) of the observed picture; () where there is none.
        shows: Whether there are frames for rewards and films: an observed picture, or one by ``render()``.
        why_not: Why there are none, in words.
    """

    obs: dict[str, elements.Space]
    act: elements.Space
    limit: int
    picture: tuple[int, ...]
    shows: bool
    why_not: str = ""


@functools.cache
def look(name: str, size: tuple[int, int], kwargs: str = "") -> Look:
    """Opens the environment in a child process, resets it, and says what is there.

    Args:
        name: ``EnvId`` or ``module:EnvId``.
        size: (height, width) of the agent's pictures.
        kwargs: As in ``--env.gym.kwargs``.

    Raises:
        UserError: It cannot be made or reset, or its spaces are none that the agent knows.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "look.json"
        asked = json.dumps([name, list(size), kwargs, str(answer)])
        command = [sys.executable, "-c", _START, json.dumps(sys.path), asked]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise UserError(f"The environment '{name}' was not ready within {PATIENCE:g} s.") from None
        if not answer.exists():
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise UserError(f"The process that opened '{name}' ended with code {done.returncode}: {last}")
        found = json.loads(answer.read_text())
    if "error" in found:
        raise UserError(found["error"])
    obs = {key: _space(*facts) for key, facts in found.pop("obs").items()}
    return Look(obs, _space(*found.pop("act")), picture=tuple(found.pop("picture")), **found)


def main() -> None:
    """The child: looks, and leaves what it found in a file."""
    name, size, kwargs, answer = json.loads(sys.argv[2])
    try:
        found = _look(name, tuple(size), kwargs)
        facts = {**vars(found), "act": _facts(found.act), "obs": {k: _facts(v) for k, v in found.obs.items()}}
    except UserError as error:
        facts = {"error": str(error)}
    except Exception as error:  # whatever the user's environment raises
        facts = {"error": f"The environment '{name}' could not be opened: {type(error).__name__}: {error}"}
    Path(answer).write_text(json.dumps(facts))
    sys.stdout.flush()
    os._exit(0)  # some simulators hang or crash where they are taken down


def _facts(space: elements.Space) -> list:
    """A space as JSON; the bounds of those that there are here are the same for every number."""
    bounds = [
        float(side.flat[0]) if np.isfinite(side).all() else None for side in map(np.asarray, (space.low, space.high))
    ]
    return [space.dtype.name, list(space.shape), *bounds]


def _space(dtype: str, shape: list[int], low: float | None, high: float | None) -> elements.Space:
    if dtype == "uint8":  # the upper bound of bytes, 255, is one that elements does not take for an exclusive one
        return elements.Space(np.uint8, tuple(shape))
    if np.issubdtype(np.dtype(dtype), np.integer):
        return elements.Space(np.dtype(dtype), tuple(shape), int(low), int(high))
    return elements.Space(np.dtype(dtype), tuple(shape), low, high)


def _look(name: str, size: tuple[int, int], kwargs: str) -> Look:
    from genreward_jax.envs import gymnasium_env as gym
    from genreward_jax.envs.gym_spaces import Actions, Observations

    env = gym.make(name, kwargs)
    observations, actions = Observations(env.observation_space, size), Actions(env.action_space)
    observations(env.reset(seed=0)[0])
    limit, why_not = int(getattr(env.spec, "max_episode_steps", 0) or 0), ""
    if not observations.picture_shape:
        why_not = gym.why_it_shows_nothing(env, name, kwargs)
    env.close()
    return Look(observations.spaces, actions.space, limit, observations.picture_shape, not why_not, why_not)
