"""Pictures that run directories hold: the last evaluation's episode, and the goal."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genreward_jax.errors import UserError
from genreward_jax.goals import Goal, load_goal
from genreward_jax.paper_figures.runs import Run


@dataclass(frozen=True)
class Earned:
    """What is known of the episode of :func:`episode_file`.

    Attributes:
        step: Of the training; None where nothing says it.
        score: Return of the dense reward, None where the film's own episode cannot be told from others.
        success: 1 or 0; None as that, or where the environment does not say.
    """

    step: int | None = None
    score: float | None = None
    success: float | None = None


def earned(run: Run) -> Earned:
    """What the episode of :func:`episode_file` earned: its evaluation's first, or what `make eval` wrote beside it."""
    file = episode_file(run)
    if file is None:
        return Earned()
    if file.parent.name != "videos":
        return _played(file.with_name("results.json"))
    last = run.evaluations[-1]
    if last.is_mean or int(run.flat["run.envs"]) > 1:  # of several environments, another may have ended first
        return Earned(last.step)
    success = float(last.successes[0])
    return Earned(last.step, float(last.returns[0]), None if np.isnan(success) else success)


def _played(results: Path) -> Earned:
    """The first episode of a `make eval`."""
    try:
        content = json.loads(results.read_text())
        first = content["episodes"][0]
        success = first["success"]
        return Earned(int(content["step"]), float(first["score"]), None if success is None else float(success))
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return Earned()


def episode_file(run: Run) -> Path | None:
    """The video of the run's last evaluation, or of its latest `make eval`; None where it has neither."""
    own = run.path / "videos" / "episode.mp4"
    played = sorted(run.path.glob("eval/*/episode_000.mp4"))
    return own if own.is_file() else played[-1] if played else None


def episode(run: Run) -> np.ndarray:
    """Frames of :func:`episode_file`, uint8 (N, H, W, 3).

    Raises:
        UserError: The run has no such video.
    """
    from genreward_jax.video import read_video

    file = episode_file(run)
    if file is None:
        raise UserError(
            f"The run in '{run.path}' has no video of an episode (videos/episode.mp4): make eval RUN={run.path} "
            "films one."
        )
    return read_video(file)[0]


def goal(run: Run) -> Goal:
    """The run's goal, with the whole video.

    Raises:
        UserError: It has none.
    """
    return load_goal(run.path / "goal")


def name(task: str) -> str:
    """A task's name for people."""
    return task.replace("_", " ").title()
