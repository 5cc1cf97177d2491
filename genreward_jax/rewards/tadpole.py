"""TADPoLe (Luo et al., 2024, arXiv:2407.02686): how much a text helps a diffusion model to denoise what is seen."""

import numpy as np

from genreward_jax.rewards.base import Denoising, Models, Payment, Reward, Schedule, Window


def symlog(x: float) -> float:
    """sign(x) log(1 + \\|x\\|)."""
    return float(np.sign(x) * np.log1p(np.abs(x)))


class Tadpole(Reward):
    """symlog(w1 |e_text - e_none|^2) + symlog(w2 (|e_none - e|^2 - |e_text - e|^2)), means over the noise.

    The frame is put under noise e of one level; e_text and e_none are what the model predicts of it with the task's
    text and without. Its first frame is never shown to a model of videos: it would be the answer. The noise is the
    same at every step, so that rewards differ by what is seen and not by the draw.

    Settings: ``level`` (share of the noise steps), ``draws``, ``alignment`` and ``reconstruction`` (w1, w2),
    ``clip_frames`` (1: the observation; 4k + 1: the video form), ``every`` and ``noise_seed``. The published script for
    Meta-World adds 2 for a success: that is the environment's own reward, and is not done here.
    """

    runs_in = "bridge"
    needs = ("denoise_error",)

    def schedule(self) -> Schedule:
        return Schedule("every", int(self.settings.get("every", 1)), recent=int(self.settings.get("clip_frames", 1)))

    def __call__(self, window: Window, models: Models) -> Payment:
        levels = (float(self.settings.get("level", 0.5)),) * int(self.settings.get("draws", 1))
        seed = int(self.settings.get("noise_seed", 0))
        asked = Denoising(window.frames, self.goal.prompts[0], levels, seed, compare=True)
        with_text, without, gap = models.denoise_error(asked).astype(np.float64).mean((0, 1))
        alignment = symlog(float(self.settings.get("alignment", 2000)) * gap)
        reconstruction = symlog(float(self.settings.get("reconstruction", 200)) * (without - with_text))
        return Payment([alignment + reconstruction], {"alignment": alignment, "reconstruction": reconstruction})
