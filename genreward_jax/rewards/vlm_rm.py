"""VLM-RM (Rocamonde et al., 2023, arXiv:2310.12921): CLIP's similarity of a frame to the task's text."""

import numpy as np

from genreward_jax.errors import UserError
from genreward_jax.rewards.base import Models, Payment, Reward, Schedule, Window


class VlmRm(Reward):
    """Goal-baseline regularisation (their section 3.2), at every step.

    With unit embeddings of the frame x, of the task's text g and of a text b that describes the scene whatever is
    done in it, distances along g - b count in full and all others only 1 - ``regularisation`` as much:
    1 - |P (x - g)|^2 / 2. Several sentences of a task become the direction of their mean.
    """

    runs_in = "bridge"
    needs = ("embed_image", "embed_text")

    def __init__(self, goal=None, **settings) -> None:
        super().__init__(goal, **settings)
        self._strength = float(settings.get("regularisation", 0.5))
        if not 0 <= self._strength <= 1:
            raise UserError(f"VLM-RM's regularisation is {self._strength}; it must be from 0 to 1.")
        self._baseline = str(settings.get("baseline_text", "a robot arm on a table"))
        self._goal: np.ndarray | None = None
        self._along: np.ndarray | None = None  # unit vector from baseline to goal

    def schedule(self) -> Schedule:
        return Schedule("every", 1, recent=1)

    def __call__(self, window: Window, models: Models) -> Payment:
        if self._goal is None:
            *goals, baseline = models.embed_text([*self.goal.prompts, self._baseline]).astype(np.float64)
            mean = np.mean(goals, 0)
            self._goal = mean / np.linalg.norm(mean)
            direction = self._goal - baseline
            self._along = direction / max(np.linalg.norm(direction), 1e-12)
        off = models.embed_image(window.frames).astype(np.float64)[-1] - self._goal
        kept = self._strength * (off * self._along).sum() * self._along + (1 - self._strength) * off
        return Payment([float(1 - 0.5 * np.square(kept).sum())])
