"""The paper's two rewards: the goal video's (eq. 3 to 5) and the forward-backward one (eq. 9)."""

import numpy as np

from genreward_jax.rewards.base import Models, Payment, Reward, Window


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two arrays of one shape, flattened, reduced in float64: near 1 a half float erases the signal."""
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


class VideoReward(Reward):
    """Cosine between the latents of the agent's window and of the goal video (eq. 5), paid every interval."""

    runs_in = "bridge"
    needs = ("encode_video",)

    def __init__(self, goal=None, **settings) -> None:
        super().__init__(goal, **settings)
        self._z_goal: np.ndarray | None = None

    def __call__(self, window: Window, models: Models) -> Payment:
        if self._z_goal is None:
            self._z_goal = models.encode_video(self.goal.frames)  # eq. 4
        z_v = models.encode_video(window.frames)  # eq. 3
        return Payment([cosine(z_v, self._z_goal)])  # eq. 5


class ForwardBackwardReward(Reward):
    """F(s, a, z) . B(psi(I*)) (eq. 9), computed in the policy call of the row before the paid one."""

    runs_in = "trainer"
    wants_frames = False
    outputs = ("reward_fb", "reward_fb_paid")

    def __call__(self, window: Window, models: Models | None = None) -> Payment:
        if not window.outputs["reward_fb_paid"][-1]:
            return Payment([])  # FB is still being trained
        return Payment([float(window.outputs["reward_fb"][-1])])
