"""What a reward would see if it were asked at every step: windows that slide over an episode."""

from collections.abc import Iterator

import numpy as np

from genreward_jax.rewards.base import Reward, Schedule, Window
from genreward_jax.score.trajectories import Trajectory
from genreward_jax.windows import frame_steps

STRIDE = 8  # steps between two windows of frames
SHORTEST = 16  # steps of the first: at an episode's start a window is shorter than the interval


def steps_of(reward: Reward, length: int) -> range:
    """Steps of an episode at which :func:`sliding` has a window: every one, or every 8th for frames seen by models.

    A reward in the bridge that wants frames looks at a window of them, so it is first asked after 16 steps.
    """
    if reward.wants_frames and reward.runs_in == "bridge":
        return range(SHORTEST, length + 1, STRIDE)
    return range(1, length + 1)


def sliding(
    reward: Reward, schedule: Schedule, trajectory: Trajectory, frames: np.ndarray, outputs: dict
) -> Iterator[tuple[int, Window]]:
    """Windows as long as the reward's interval that end at each of :func:`steps_of`, those of the start shorter.

    For a reward that is paid at an episode's end a window is all of the episode so far. A window that ends where
    training would pay is the very one that training would pay.

    Args:
        reward: What is asked.
        schedule: What it wants to see, as :func:`windows.resolved` gives it.
        trajectory: The episode of T steps.
        frames: uint8 (T + 1, S, S, 3).
        outputs: What the policy would have returned, (T + 1, ...) each.

    Yields:
        The step, and the window that ends there.
    """
    for end in steps_of(reward, trajectory.length):
        steps = end if schedule.kind == "end" else min(end, schedule.interval)
        begin = end - steps  # the row before the window's first
        shown = frames[frame_steps(schedule, end)] if reward.wants_frames else None
        yield (
            end,
            Window(
                frames=shown,
                actions=trajectory.actions[begin:end],
                rewards=trajectory.rewards[begin + 1 : end + 1],
                outputs={key: outputs[key][begin:end] for key in reward.outputs},
                ended=end == trajectory.length or schedule.kind == "end",
                step=end,
            ),
        )
