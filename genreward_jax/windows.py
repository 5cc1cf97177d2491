"""Which frames of a sequence are looked at: section 3.2's uniform sampling, one for goal, environment and shaper."""

from dataclasses import replace
from functools import cache

import numpy as np

from genreward_jax.rewards.base import Schedule


def sample_indices(length: int, count: int) -> np.ndarray:
    """Indices of ``count`` frames spread evenly over a sequence, first and last included.

    Args:
        length: Frames in the sequence, at least 1.
        count: Frames wanted; a shorter sequence repeats some.

    Returns:
        int64 array of shape (count,), non-decreasing, from 0 to ``length - 1``.
    """
    if length < 1 or count < 1:
        raise ValueError(f"cannot sample {count} frames from a sequence of {length}")
    return np.round(np.linspace(0, length - 1, count)).astype(np.int64)


@cache
def sampled_steps(interval: int, count: int) -> frozenset[int]:
    """Which steps of each window are sampled, as offsets 1..interval from the last reward step.

    The k-th window holds the frames ``o[interval*(k-1)+1 .. interval*k]``; step ``t`` of an episode (0 is the
    reset) is sampled when ``(t - 1) % interval + 1`` is in this set.
    """
    return frozenset(int(i) + 1 for i in sample_indices(interval, count))


def resolved(schedule: Schedule, frames: int) -> Schedule:
    """The schedule with a number of sampled frames in it: its own, or ``frames``."""
    return replace(schedule, frames=schedule.frames or frames)


def looks_at(schedule: Schedule, step: int, length: int = 0) -> bool:
    """Whether a reward looks at the frame of a step.

    Args:
        schedule: As :func:`resolved` gives it.
        step: From the episode's reset, which is 0.
        length: Steps after which the episode ends at the latest; 0 where nobody knows.
    """
    if schedule.recent:
        if schedule.kind == "end":
            return True  # it may come early
        paid = [step + back * schedule.stride for back in range(schedule.recent)]
        before = step == 0 and paid[-1] > schedule.interval  # stands in for the steps before the reset
        return before or any(p > 0 and p % schedule.interval == 0 and (not length or p <= length) for p in paid)
    if step == 0:
        return False
    if schedule.kind == "end":
        return not length or step in sampled_steps(length, schedule.frames)
    begin = (step - 1) // schedule.interval * schedule.interval
    if length and begin + schedule.interval > length:
        return False  # the time limit ends the episode before this window is full, and it will not be paid
    return step - begin in sampled_steps(schedule.interval, schedule.frames)


def frame_steps(schedule: Schedule, step: int) -> list[int]:
    """Steps of the frames of the window that is paid at ``step``, oldest first; all from the reset on are there.

    Args:
        schedule: As :func:`resolved` gives it.
        step: Of the paid row; for one paid at the end, the episode's length.
    """
    if schedule.recent:
        return [max(0, step - back * schedule.stride) for back in reversed(range(schedule.recent))]
    steps = step if schedule.kind == "end" else min(step, schedule.interval)
    return [int(i) + 1 + step - steps for i in sample_indices(steps, schedule.frames)]
