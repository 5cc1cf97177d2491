"""LIV (Ma et al., 2023, arXiv:2306.00958): progress towards a goal image or text in a space of both."""

import numpy as np

from genreward_jax.rewards.base import Models, Payment, Reward, Schedule, Window
from genreward_jax.rewards.choices import one_of
from genreward_jax.video import fit


class Liv(Reward):
    """Potential difference S(o_t) - S(o_{t-1}) of the cosine to the goal, at every step.

    ``toward``: 'goal', the goal video's key frame, or 'text', the mean direction of the task's sentences. LIV's weights
    are a CLIP of ResNet-50 shape, given as an open_clip folder; other CLIPs do, as less.
    """

    runs_in = "bridge"
    needs = ("embed_image", "embed_text")

    def __init__(self, goal=None, **settings) -> None:
        super().__init__(goal, **settings)
        self._toward = one_of(
            "toward", settings.get("toward", "auto"), {"auto": "goal", "goal": "goal", "text": "text"}
        )
        self._aim: np.ndarray | None = None

    def schedule(self) -> Schedule:
        return Schedule("every", 1, recent=2)

    def __call__(self, window: Window, models: Models) -> Payment:
        if self._aim is None:
            if self._toward == "text":
                aims = models.embed_text(list(self.goal.prompts))
            else:
                aims = models.embed_image(fit(self.goal.key_frame[None], window.frames.shape[1]))
            mean = aims.astype(np.float64).mean(0)
            self._aim = mean / np.linalg.norm(mean)
        before, now = (models.embed_image(window.frames).astype(np.float64) * self._aim).sum(1)
        return Payment([float(now - before)], {"potential": float(now)})
