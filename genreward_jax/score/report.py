"""What ``make score`` leaves behind: the table on the terminal, ``score.json``, ``score.png`` and ``score.html``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from genreward_jax.score.discrimination import Discrimination
from genreward_jax.score.statistics import Figures

if TYPE_CHECKING:
    from genreward_jax.score.trajectories import Trajectory
    from genreward_jax.score.values import Values

CONTROLS = ("random", "constant", "ramp", "pixels", "env")


@dataclass
class Score:
    """All that was found out.

    Attributes:
        task: Underscore name; '' for foreign episodes.
        goal: Where the goal came from, in words.
        command: What the user typed.
        commit: Of the code, '' if unknown.
        seeds: Of the episodes.
        trajectories: The episodes, N of them.
        values: For each reward, in the order asked for, what it says of each episode.
        figures: For each reward, :func:`metrics.measure`'s answer.
        discrimination: For the rewards for which it was measured.
        controls: Names of the rewards that are controls.
        notes: Sentences that a reader of the numbers must know.
        fps: Frames a second at which an episode is played on the page; a frame is an agent step.
        goal_frames: uint8 (N, H, W, 3), shown on the page, or None.
    """

    task: str
    goal: str
    command: str
    commit: str
    seeds: list[int]
    trajectories: "list[Trajectory]"
    values: "dict[str, list[Values]]"
    figures: dict[str, Figures]
    discrimination: dict[str, Discrimination] = field(default_factory=dict)
    controls: tuple[str, ...] = CONTROLS
    notes: list[str] = field(default_factory=list)
    fps: float = 30.0
    goal_frames: "object | None" = None


def table(score: Score, width: int = 100) -> str:
    """The table for the terminal, no line longer than ``width``."""
    raise NotImplementedError


def write(folder: Path, score: Score) -> list[Path]:
    """Writes score.json, score.png and score.html, each whole; gives their paths."""
    raise NotImplementedError
