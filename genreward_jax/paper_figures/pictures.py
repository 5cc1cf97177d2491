"""Pictures that run directories hold: the last evaluation's episode, and the goal."""

from pathlib import Path

import numpy as np

from genreward_jax.errors import UserError
from genreward_jax.goals import Goal, load_goal
from genreward_jax.paper_figures.runs import Run


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
