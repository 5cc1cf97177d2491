"""Rewards as a user would write them; the scoring process never imports this module, the model process does."""

import os

from genreward_jax.rewards.base import Payment, Reward, Schedule


class Brightness(Reward):
    """The mean of the window's last frame, at every 8th step, and which process said so."""

    def schedule(self):
        return Schedule("every", 8)

    def __call__(self, window, models):
        return Payment([float(window.frames[-1].mean())], {"pid": os.getpid()})


class Counter(Reward):
    """Has a memory: the rows that it was shown."""

    def __init__(self, goal=None, **settings):
        super().__init__(goal, **settings)
        self.rows = 0

    def __call__(self, window, models):
        return Payment([float(self.rows)])

    def observe(self, rows):
        self.rows += len(rows)


class Last(Reward):
    """Paid once, at the end: how many frames' worth of steps there were."""

    def schedule(self):
        return Schedule("end")

    def __call__(self, window, models):
        return Payment([float(window.step + window.ended)])


class Novel(Reward):
    """The exploration bonus alone, at every step."""

    def __init__(self, goal=None, **settings):
        super().__init__(goal, **settings)
        from genreward_jax.rewards.exploration import (
            Novelty,
        )  # not at the top: Brightness runs where there is only NumPy

        self.novelty = Novelty()

    def schedule(self):
        return Schedule("every", 1, frames=1)

    def __call__(self, window, models):
        frame = window.frames[-1]
        value = self.novelty(frame)
        self.novelty.observe(frame)
        return Payment([value])

    def observe(self, rows):
        pass
