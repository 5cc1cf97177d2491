"""What a reward says of one episode, in the two variants that every metric names."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Values:
    """One reward's judgement of one trajectory of T steps; row 0 is the reset, which no action earned.

    Attributes:
        as_trained: float32 (T + 1,): the unweighted value at the rows that training would pay, NaN elsewhere. For a
            whole method, whose terms have weights of their own, their weighted sum.
        weighted: float32 (T + 1,): what training would add to each row's reward, 0 where nothing.
        every_step: float32 (T + 1,): the value at every row for which there is one, NaN elsewhere.
    """

    as_trained: np.ndarray
    weighted: np.ndarray
    every_step: np.ndarray
