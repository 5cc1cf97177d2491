"""All that ``make score`` found out, in one object that its table, files and page are made from."""

from dataclasses import dataclass, field

import numpy as np

from genreward_jax.score.discrimination import Discrimination
from genreward_jax.score.statistics import Figures
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
        about: A sentence on what a reward is, for those that need one.
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
    trajectories: list[Trajectory]
    values: dict[str, list[Values]]
    figures: dict[str, Figures]
    discrimination: dict[str, Discrimination] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    controls: tuple[str, ...] = CONTROLS
    notes: list[str] = field(default_factory=list)
    fps: float = 30.0
    goal_frames: np.ndarray | None = None
