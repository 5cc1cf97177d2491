"""Which frames of a sequence are looked at: section 3.2's uniform sampling, one for goal, environment and shaper."""

import numpy as np


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


def sampled_steps(interval: int, count: int) -> frozenset[int]:
    """Which steps of each window are sampled, as offsets 1..interval from the last reward step.

    The k-th window holds the frames ``o[interval*(k-1)+1 .. interval*k]``; step ``t`` of an episode (0 is the
    reset) is sampled when ``(t - 1) % interval + 1`` is in this set.
    """
    return frozenset(int(i) + 1 for i in sample_indices(interval, count))
