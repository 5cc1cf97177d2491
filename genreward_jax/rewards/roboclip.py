"""RoboCLIP (Sontakke et al., 2023, arXiv:2310.07899): how well the episode's video fits a sentence or another video."""

import numpy as np

from genreward_jax.rewards.base import Models, Payment, Reward, Schedule, Window
from genreward_jax.rewards.choices import one_of


class RoboClip(Reward):
    """Raw dot product of the embeddings of the whole episode and of what it should be; 0 until the episode ends.

    The published code embeds every fourth of 128 frames by S3D. ``toward``: 'text', the mean over the task's
    sentences, or 'goal', the goal video as the demonstration.
    """

    runs_in = "bridge"
    needs = ("embed_video", "embed_video_text")

    def __init__(self, goal=None, **settings) -> None:
        super().__init__(goal, **settings)
        self._toward = one_of(
            "toward", settings.get("toward", "auto"), {"auto": "text", "text": "text", "goal": "goal"}
        )
        self._aim: np.ndarray | None = None

    def schedule(self) -> Schedule:
        return Schedule("end", frames=int(self.settings.get("episode_frames", 32)))

    def __call__(self, window: Window, models: Models) -> Payment:
        if self._aim is None:
            if self._toward == "text":
                self._aim = models.embed_video_text(list(self.goal.prompts)).astype(np.float64).mean(0)
            else:
                self._aim = models.embed_video(self.goal.frames).astype(np.float64)
        return Payment([float(models.embed_video(window.frames).astype(np.float64) @ self._aim)])
