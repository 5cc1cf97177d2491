"""A run's policy as an object: ``genreward_jax.load(run).act(image)``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import elements
import numpy as np

from genreward_jax import parts
from genreward_jax.checkpoint import Checkpoint
from genreward_jax.device import prepare_jax
from genreward_jax.errors import UserError
from genreward_jax.methods import load_method
from genreward_jax.rundir import RunDirectory, run_config
from genreward_jax.suites import observed


class Policy:
    """A trained agent that acts, one environment at a time.

    Attributes:
        config: The run's configuration.
        step: Agent steps it was trained for.
        agent: The agent in embodied's form, for :func:`genreward_jax.evaluation.episodes.play`.
    """

    def __init__(self, config: elements.Config, agent: Any, step: int) -> None:
        self.config, self.agent, self.step = config, agent, step
        self.reset()

    def reset(self) -> None:
        """Forgets the episode so far; the next observation is an episode's first."""
        self._carry = self.agent.init_policy(1)
        self._first = True

    def act(self, obs: np.ndarray | Mapping[str, Any]) -> np.ndarray:
        """The action for an observation, remembering those before it.

        Args:
            obs: The image, uint8 (H, W, 3) of the run's size; or a mapping with ``image`` and, if you like,
                ``is_first``, which starts a new episode. A policy of another environment takes what its rows hold
                (``vector``, say): the one array, or a mapping of all.

        Returns:
            float32 in [-1, 1] of the action's shape, (4,) on Meta-World; an integer where actions are classes. As in
            training the action is drawn from the policy, not its mode.

        Raises:
            UserError: an image or another part that is missing, or of another shape or type.
        """
        spaces = observed(self.agent.obs_space)
        row = dict(obs) if isinstance(obs, Mapping) else {next(iter(spaces)): obs}
        seen = {}
        for key, space in spaces.items():
            value = np.asarray(row.get(key))
            if value.shape != space.shape or (space.dtype == np.uint8) != (value.dtype == np.uint8):
                what = "images" if key == "image" else f"'{key}'"
                raise UserError(
                    f"This policy sees {space.dtype} {what} of {space.shape}; it was given {value.dtype} {value.shape}."
                )
            seen[key] = value.astype(space.dtype)[None]
        if row.get("is_first"):
            self.reset()
        batch = {
            **seen,
            "reward": np.zeros(1, np.float32),
            "is_first": np.array([self._first]),
            "is_last": np.zeros(1, bool),
            "is_terminal": np.zeros(1, bool),
        }
        self._first = False
        self._carry, acts, _ = self.agent.policy(self._carry, batch, mode="eval")
        action = np.asarray(acts["action"][0])
        return action if self.agent.act_space["action"].discrete else np.clip(np.float32(action), -1, 1)


def load(run: str) -> Policy:
    """Opens the policy of a run's latest checkpoint. Nothing is unpickled and nothing in the folder is changed.

    Raises:
        UserError: no run there, none saved yet, or files that are damaged.
    """
    from dreamerv3_patches.checkpoint import load_agent

    folder = RunDirectory(run)
    config = prepare_jax(
        run_config(run).update({"jax.platform": "auto", "jax.transfer_guard": False, "logdir": str(Path(run))}),
        bridge=False,
    )
    checkpoint = Checkpoint(folder / "checkpoint", None, None)
    found = checkpoint.latest()
    if found is None:
        raise UserError(f"The run in '{run}' has saved no checkpoint yet; wait for its first, or let it go on.")
    agent = parts.make_agent(config, load_method(config.method, dict(config.reward)))
    load_agent(agent, found)
    return Policy(config, agent, checkpoint.step_of(found))
