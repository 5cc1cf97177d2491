"""Rewards that know nothing, or the wrong thing: what a learned reward must beat before it is believed.

Each can be trained with as any other (``METHOD=random``); ``make score`` judges all five beside what is asked for.
"""

import hashlib

import numpy as np

from genreward_jax.rewards.base import Models, Payment, Reward, Schedule, Window
from genreward_jax.video import fit


class _Control(Reward):
    """Runs in the loop: nothing here needs a model."""

    runs_in = "trainer"
    wants_frames = False


class Random(_Control):
    """A number from [0, 1), drawn anew for each paid row and the same whenever the same episode is played."""

    def __call__(self, window: Window, models: Models | None = None) -> Payment:
        # What was done tells episodes apart; no state is kept, so that late or repeated calls change nothing.
        played = np.ascontiguousarray(window.actions, np.float32).tobytes()
        told = f"{self.settings.get('seed', 0)} {window.step}".encode()
        drawn = hashlib.blake2b(played, digest_size=8, key=told).digest()
        return Payment([int.from_bytes(drawn, "little") / 2**64])


class Constant(_Control):
    """One, whatever happens."""

    def __call__(self, window: Window, models: Models | None = None) -> Payment:
        return Payment([1.0])


class Ramp(_Control):
    """Steps since the reset: in line with time, blind to the task."""

    def __call__(self, window: Window, models: Models | None = None) -> Payment:
        return Payment([float(window.step)])


class Pixels(_Control):
    """Cosine of the window's last frame to the goal's key frame, raw pixels: no model, and a strong control."""

    wants_frames = True

    def __init__(self, goal=None, **settings) -> None:
        super().__init__(goal, **settings)
        self._aim: np.ndarray | None = None  # the key frame as a unit vector

    def __call__(self, window: Window, models: Models | None = None) -> Payment:
        if self._aim is None:
            self._aim = _unit(fit(self.goal.key_frame[None], window.frames.shape[1])[0])
        return Payment([float((_unit(window.frames[-1]) * self._aim).sum())])


def _unit(frame: np.ndarray) -> np.ndarray:
    """Pixels as a unit vector. No ``@``: BLAS would wake all its threads for each frame."""
    pixels = frame.astype(np.float64).ravel()
    return pixels / max(np.sqrt(np.square(pixels).sum()), 1e-12)


class Env(_Control):
    """The environment's own reward once more, at every row."""

    def schedule(self) -> Schedule:
        return Schedule("every", 1)

    def __call__(self, window: Window, models: Models | None = None) -> Payment:
        return Payment([float(window.rewards[-1])])
