"""The paper's two rewards: the goal video's (eq. 3 to 5) and the forward-backward one (eq. 9)."""

import numpy as np

from genreward_jax.errors import UserError
from genreward_jax.rewards.base import Models, Payment, Reward, Schedule, Window

BASELINES = ("none", "still")


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two arrays of one shape, flattened, reduced in float64: near 1 a half float erases the signal."""
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


class VideoReward(Reward):
    """Cosine between the latents of the agent's window and of the goal video (eq. 5), paid every interval.

    Most of every frame never changes, so these cosines sit near 1. With ``baseline='still'`` (not in the paper) what
    the goal's own first frame, held still, already scores is taken off and the rest is rescaled to [0, 1].
    """

    runs_in = "bridge"
    needs = ("encode_video",)

    def __init__(self, goal=None, **settings) -> None:
        super().__init__(goal, **settings)
        self._baseline = settings.get("baseline", "none")
        if self._baseline not in BASELINES:
            raise UserError(f"--reward.baseline is {self._baseline!r}; it can be {' or '.join(BASELINES)}.")
        self._z_goal: np.ndarray | None = None
        self._still = 0.0

    def __call__(self, window: Window, models: Models) -> Payment:
        if self._z_goal is None:
            self._z_goal = models.encode_video(self.goal.frames)  # eq. 4
            if self._baseline == "still":
                held = np.repeat(self.goal.frames[:1], len(self.goal.frames), axis=0)
                self._still = cosine(models.encode_video(held), self._z_goal)
        z_v = models.encode_video(window.frames)  # eq. 3
        similarity = cosine(z_v, self._z_goal)  # eq. 5
        if self._baseline == "none":
            return Payment([similarity])
        return Payment([above_baseline(similarity, self._still)], {"cosine": similarity})


def above_baseline(similarity: float, still: float) -> float:
    """Share of the way from what a still frame scores to a perfect match, in [0, 1]; 0 where the goal never moves."""
    return min(1.0, max(0.0, (similarity - still) / (1 - still))) if still < 1 else 0.0


class ForwardBackwardReward(Reward):
    """F(s, a, z) . B(psi(I*)) (eq. 9), computed in the policy call of the row before the paid one.

    It needs no window, so it may be paid more often than the video's (``fb_interval``, not in the paper; 0 is the
    ``interval`` of both).
    """

    runs_in = "trainer"
    wants_frames = False
    outputs = ("reward_fb", "reward_fb_paid")

    def schedule(self) -> Schedule:
        return Schedule("every", int(self.settings.get("fb_interval", 0)) or int(self.settings.get("interval", 128)))

    def __call__(self, window: Window, models: Models | None = None) -> Payment:
        if not window.outputs["reward_fb_paid"][-1]:
            return Payment([])  # FB is still being trained
        return Payment([float(window.outputs["reward_fb"][-1])])
