"""Played episodes as a LeRobot data set, which ``make score`` and ``make finetune`` read."""

from dataclasses import dataclass
from pathlib import Path

import elements
import numpy as np

from genreward_jax.datasets import lerobot_writer
from genreward_jax.errors import UserError
from genreward_jax.evaluation.episodes import Episode
from genreward_jax.generating import video_prompt


@dataclass
class Recording:
    """An episode's rows as :mod:`lerobot_writer` takes them."""

    behaviour: str
    seed: int
    frames: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    success: np.ndarray


def write(folder: Path, played: list[Episode], config: elements.Config, fps: int) -> None:
    """Writes filmed episodes; the folder appears complete or not at all.

    Args:
        folder: Not there yet, or empty.
        played: By :func:`episodes.play`, all filmed.
        config: Of the run.
        fps: Frames a second, an agent step each.

    Raises:
        UserError: The environment shows no pictures, or the folder is taken.
    """
    if not all(episode.frames for episode in played):
        raise UserError(f"'{config.task}' shows no pictures, so its episodes are no video data set: leave DATA= out.")
    recordings = [recording(episode, number) for number, episode in enumerate(played)]
    camera = config.env.metaworld.camera if config.task.startswith("metaworld_") else "main"
    texts = [caption(config, episode) for episode in played]
    lerobot_writer.write(folder, recordings, texts, fps, robot=config.task.split("_", 1)[0], camera=camera)


def recording(episode: Episode, number: int) -> Recording:
    """The episode with that number, which stands for its seed; the reset earns nothing."""
    return Recording(
        behaviour="run",
        seed=number,
        frames=np.stack(episode.frames),
        actions=np.stack(episode.actions),
        rewards=np.array(episode.rewards, np.float32),
        success=np.array(episode.successes, bool),
    )


def caption(config: elements.Config, episode: Episode) -> str:
    """What the episode shows. One that fails says so, or a model tuned on it would learn that this is the task."""
    words = video_prompt(config) or config.task.split("_", 1)[1]
    return words if episode.success > 0 else f"a failed attempt: {words}"
