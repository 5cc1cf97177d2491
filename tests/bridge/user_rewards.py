"""Rewards as a user would write them, in a module of the user's own; the bridge process imports them by name."""

import importlib.util
import os
import time

import numpy as np

from genreward_jax.rewards.base import Payment, Reward


class TextReward(Reward):
    """Mean cosine of the window's frames to a sentence."""

    needs = ("embed_image", "embed_text")

    def __call__(self, window, models):
        text = models.embed_text([self.settings["text"]])[0]
        images = models.embed_image(window.frames)
        return Payment([float((images @ text).mean())], {"best": float((images @ text).max())})


class Broken(Reward):
    """Fails on its first line of arithmetic."""

    def __call__(self, window, models):
        return Payment([1 / (window.step - window.step)])


class Undeclared(Reward):
    """Uses a capability that it does not name."""

    def __call__(self, window, models):
        return Payment([float(models.embed_state(window.frames).mean())])


class Counting(Reward):
    """Has a memory: pays the number of rows it has observed, then of calls."""

    def __init__(self, goal=None, **settings):
        super().__init__(goal, **settings)
        self.rows = self.calls = 0

    def __call__(self, window, models):
        calls = self.calls
        time.sleep(0.01)  # two at a time would both see the same number
        self.calls = calls + 1
        return Payment([float(self.rows), float(self.calls)])

    def observe(self, rows):
        self.rows += len(rows)

    def state(self):
        return {"rows": np.array(self.rows)}

    def load(self, state):
        self.rows = int(state["rows"])


class Slow(Reward):
    """Sleeps as many seconds as the window has steps."""

    def __call__(self, window, models):
        time.sleep(window.step)
        return Payment([1.0])


class Patient(Reward):
    """Waits for a file, then pays the width of the frames; having a memory, it has its calls stand in line."""

    def __call__(self, window, models):
        while not os.path.exists(self.settings["until"]):
            time.sleep(0.01)
        return Payment([float(window.frames.shape[2])])

    def observe(self, rows):
        pass


class NotFinite(Reward):
    """Pays what is no number."""

    def __call__(self, window, models):
        return Payment([float("nan")])


class Deadly(Reward):
    """Takes the whole process down, as a crash in a library would, until a file says stop."""

    def __call__(self, window, models):
        if not os.path.exists(self.settings["until"]):
            open(self.settings["until"], "w").close()
            os.kill(os.getpid(), 9)
        return Payment([2.0])


class NoReward:
    """Takes a goal, but has nothing else of a reward."""

    def __init__(self, goal=None):
        self.goal = goal


class Packages(Reward):
    """The mean of the window's last frame; and which of some packages its process has."""

    def __call__(self, window, models):
        found = {name: int(importlib.util.find_spec(name) is not None) for name in ("torch", "diffusers", "numpy")}
        return Payment([float(window.frames[-1].mean())], {"pid": os.getpid(), **found})


class Needy(Reward):
    """Wants a model of ours."""

    needs = ("embed_image",)
