"""Rewards for looking like a video model's own videos: VIPER and Diffusion Reward, both with a bonus for the unseen."""

import numpy as np

from genreward_jax.rewards.base import Denoising, Models, Payment, Reward, Schedule, Window
from genreward_jax.rewards.exploration import Moments, Novelty


class _VideoPrediction(Reward):
    """A clip's later frames under a video model that is shown its first one, and random network distillation.

    Settings: ``clip_frames`` (4k + 1, up to the paid row), ``every`` (a latent frame of CogVideoX is four frames),
    ``levels`` of noise, one draw each, the same draws at every row; ``seed``.
    """

    runs_in = "bridge"

    def __init__(self, goal=None, **settings) -> None:
        super().__init__(goal, **settings)
        count = int(settings.get("levels", 4))
        self._levels = tuple((i + 0.5) / count for i in range(count))
        self._novelty = Novelty(int(settings.get("seed", 0)))
        self._rows_show = False

    def schedule(self) -> Schedule:
        every, frames = int(self.settings.get("every", 4)), int(self.settings.get("clip_frames", 5))
        return Schedule("every", every, recent=frames)

    def observe(self, rows) -> None:
        for row in rows:
            if "image" in row:
                self._rows_show = True
                self._novelty.observe(row["image"])

    def state(self) -> dict[str, np.ndarray]:
        return self._novelty.state()

    def load(self, state: dict[str, np.ndarray]) -> None:
        self._novelty.load(state)

    def _new(self, window: Window) -> float:
        """The bonus; where rows hold no picture (an environment that is only rendered) it learns from windows."""
        new = self._novelty(window.frames[-1])
        if not self._rows_show:
            self._novelty.observe(window.frames[-1])
        return new

    def _asked(self, window: Window) -> Denoising:
        seed = int(self.settings.get("seed", 0))
        return Denoising(window.frames, self.goal.prompts[0], self._levels, seed, history=True)


class Viper(_VideoPrediction):
    """ln p(next frames | first frame, text) + ``exploration`` times the bonus.

    Escontrela et al., "Video Prediction Models as Rewards", 2023, arXiv:2305.14343. Theirs is the likelihood of an
    autoregressive model of discrete codes. A diffusion model gives a lower bound, here in nats for each number of the
    latent frames, up to a constant.
    """

    needs = ("next_frame_log_likelihood",)

    def __call__(self, window: Window, models: Models) -> Payment:
        likely = float(models.next_frame_log_likelihood(self._asked(window)).astype(np.float64).mean())
        new = self._new(window)
        total = likely + float(self.settings.get("exploration", 0.05)) * new
        return Payment([total], {"log_likelihood": likely, "novelty": new})


class DiffusionReward(_VideoPrediction):
    """(1 - share) r + share RND, r the negative conditional entropy of the next frames.

    Huang et al., "Diffusion Reward", 2024, arXiv:2312.14134. The entropy is estimated by the denoising error, averaged
    over levels and draws of the noise, and standardised by the mean and spread of all rewards so far (theirs: of expert
    videos, once for each task).
    """

    needs = ("denoise_error",)

    def __init__(self, goal=None, **settings) -> None:
        super().__init__(goal, **settings)
        self._moments = Moments(())

    def __call__(self, window: Window, models: Models) -> Payment:
        error = models.denoise_error(self._asked(window)).astype(np.float64)[:, 1:, 0]  # the first frame was shown
        entropy = float(error.mean())
        self._moments.add(np.array([-entropy]))
        standard = (-entropy - float(self._moments.mean)) / max(float(self._moments.spread), 1e-8)
        new, share = self._new(window), float(self.settings.get("share", 0.95))
        return Payment([(1 - share) * standard + share * new], {"entropy": entropy, "novelty": new})

    def state(self) -> dict[str, np.ndarray]:
        return {**super().state(), **{f"rewards_{key}": value for key, value in self._moments.state().items()}}

    def load(self, state: dict[str, np.ndarray]) -> None:
        super().load(state)
        self._moments.load({key: state[f"rewards_{key}"] for key in ("count", "mean", "squares")})
