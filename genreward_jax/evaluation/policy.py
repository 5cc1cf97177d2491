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
from genreward_jax.rundir import RunDirectory


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
                ``is_first``, which starts a new episode.

        Returns:
            float32 (4,) in [-1, 1]. As in training the action is drawn from the policy, not its mode.

        Raises:
            UserError: an image of another shape or type.
        """
        row = dict(obs) if isinstance(obs, Mapping) else {"image": obs}
        image, space = np.asarray(row.get("image")), self.agent.obs_space["image"]
        if image.shape != space.shape or image.dtype != np.uint8:
            raise UserError(
                f"This policy sees uint8 images of {space.shape}; it was given {image.dtype} {image.shape}."
            )
        if row.get("is_first"):
            self.reset()
        batch = {
            "image": image[None],
            "reward": np.zeros(1, np.float32),
            "is_first": np.array([self._first]),
            "is_last": np.zeros(1, bool),
            "is_terminal": np.zeros(1, bool),
        }
        self._first = False
        self._carry, acts, _ = self.agent.policy(self._carry, batch, mode="eval")
        return np.clip(np.asarray(acts["action"][0], np.float32), -1, 1)


def load(run: str) -> Policy:
    """Opens the policy of a run's latest checkpoint. Nothing is unpickled and nothing in the folder is changed.

    Raises:
        UserError: no run there, none saved yet, or files that are damaged.
    """
    from dreamerv3_patches.checkpoint import load_agent

    folder = RunDirectory(run)
    saved = folder.saved_config()
    if saved is None:
        raise UserError(f"There is no run in '{run}' (no config.yaml); give a folder that make train wrote.")
    config = prepare_jax(
        saved.update({"jax.platform": "auto", "jax.transfer_guard": False, "logdir": str(Path(run))}), bridge=False
    )
    checkpoint = Checkpoint(folder / "checkpoint", None, None)
    found = checkpoint.latest()
    if found is None:
        raise UserError(f"The run in '{run}' has saved no checkpoint yet; wait for its first, or let it go on.")
    agent = parts.make_agent(config, load_method(config.method, dict(config.reward)))
    load_agent(agent, found)
    return Policy(config, agent, checkpoint.step_of(found))
