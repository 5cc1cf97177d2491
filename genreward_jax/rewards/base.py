"""What a reward is: one class, told when it pays and what it needs, given a window, giving one float a paid row.

Adding a reward is adding a file with such a class and naming it in ``configs/methods.yaml``, or naming the user's
own ``module:Class`` there. A reward imports no torch, no JAX and no DreamerV3: the models it needs reach it as
functions of NumPy arrays (``models``), served by the bridge process, where the class itself is imported too.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np


@dataclass(frozen=True)
class Schedule:
    """Which rows of an episode are paid, and which frames are looked at for it.

    Attributes:
        kind: Paid is ``every`` k-th step, or the episode's ``end``.
        interval: The k.
        frames: Frames sampled uniformly from the window; 0 is ``--reward.frames``.
        recent: Instead of a sample of the window, this many frames up to the paid row, whatever was paid before; for
            rows near the reset the reset's frame stands in for those before it.
        stride: Steps between two recent frames.
    """

    kind: Literal["every", "end"] = "every"
    interval: int = 1
    frames: int = 0
    recent: int = 0
    stride: int = 1


@dataclass
class Window:
    """What a reward sees of one environment since the row it last paid.

    Attributes:
        frames: uint8, (count, S, S, 3), those that the reward's schedule names, at the model family's size; None for
            a reward that wants none.
        actions: float32, (steps, action size): the action that led to each row.
        rewards: float32, (steps,): the environment's own reward of each row.
        outputs: What the policy call before each row returned, each (steps, ...).
        ended: Whether the episode ended with the last row.
        step: Steps since the episode's reset at the last row.
    """

    frames: np.ndarray | None
    actions: np.ndarray
    rewards: np.ndarray
    outputs: dict[str, np.ndarray]
    ended: bool
    step: int


@dataclass
class Payment:
    """A reward's answer: ``values`` holds one float for each paid row, ``diagnostics`` named floats for the log.

    ``values`` empty means that nothing is paid this time (a network that is still being trained, say).
    """

    values: list[float]
    diagnostics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Denoising:
    """What :meth:`Models.denoise_error` is asked: a clip, put under noise of some levels, one draw each.

    Attributes:
        frames: uint8, (T, H, W, 3); T is 1 for a model of images, 4k + 1 for one of videos.
        text: What the model is told.
        levels: Shares of the model's noise steps in [0, 1): 0.5 is step 500 of 1,000.
        seed: Of the noise; the same seed is the same noise.
        history: Whether a model of videos is shown the first frame without noise, as when it generates.
        compare: Also predict without the text, which costs as much again.
    """

    frames: np.ndarray
    text: str
    levels: tuple[float, ...]
    seed: int = 0
    history: bool = False
    compare: bool = False


class Models(Protocol):
    """Capabilities the bridge serves on NumPy arrays; only those a reward named in ``needs`` are there."""

    def encode_video(self, frames: np.ndarray) -> np.ndarray:
        """uint8 (T, H, W, 3) to the posterior's mean, float32 (C, t, h, w)."""

    def embed_image(self, frames: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) to unit CLIP embeddings, float32 (N, D)."""

    def embed_text(self, texts: list[str]) -> np.ndarray:
        """N sentences to unit CLIP embeddings, float32 (N, D)."""

    def embed_state(self, frames: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) to DINOv3's pooled output, float32 (N, 384)."""

    def embed_regions(self, frames: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) to DINOv3's features of the picture's four quarters, float32 (N, 4 * 384)."""

    def embed_video(self, frames: np.ndarray) -> np.ndarray:
        """uint8 (T, H, W, 3) to float32 (D,), not normalised, in the space of :meth:`embed_video_text`."""

    def embed_video_text(self, texts: list[str]) -> np.ndarray:
        """N sentences to float32 (N, D)."""

    def denoise_error(self, asked: Denoising) -> np.ndarray:
        """How well a diffusion model predicts the noise on a clip, float32 (levels, latent frames, 3).

        Mean squares over a latent frame's channels and pixels of: noise predicted with the text less the noise;
        predicted without the text less the noise; the two predictions' difference. The last two are NaN without
        ``compare``.
        """

    def next_frame_log_likelihood(self, asked: Denoising) -> np.ndarray:
        """A lower bound, up to a constant, of the log-likelihood of what follows a clip's first frame.

        float32 (latent frames after the first,): nats for each latent number, by the levels of ``asked`` as a sample
        of all levels (Kingma et al., "Variational Diffusion Models", 2021, eq. 14).
        """


class Reward:
    """Base class of all rewards; see the module's text.

    Class attributes:
        runs_in: 'bridge' (beside the models) or 'trainer' (in the loop, at once).
        needs: Names of the capabilities it calls.
        wants_frames: Whether ``Window.frames`` is filled.
        outputs: Policy outputs it reads from ``Window.outputs``.
    """

    runs_in: Literal["bridge", "trainer"] = "bridge"
    needs: tuple[str, ...] = ()
    wants_frames: bool = True
    outputs: tuple[str, ...] = ()

    def __init__(self, goal: Any = None, **settings: Any) -> None:
        self.goal = goal
        self.settings = settings

    def schedule(self) -> Schedule:
        """Which rows it pays; by default every ``interval``-th step of the settings."""
        return Schedule("every", int(self.settings.get("interval", 128)))

    def __call__(self, window: Window, models: Models | None) -> Payment:
        raise NotImplementedError

    def declares(self) -> dict[str, Any]:
        """What another process must know of it without importing it: its class attributes, schedule and memory."""
        return {
            "runs_in": self.runs_in,
            "needs": tuple(self.needs),
            "wants_frames": bool(self.wants_frames),
            "outputs": tuple(self.outputs),
            "schedule": self.schedule(),
            "memory": type(self).observe is not Reward.observe,
        }

    def observe(self, rows: list[dict[str, np.ndarray]]) -> None:
        """Rows as they leave for the replay, in order, for a reward with a memory (running norm, exploration bonus).

        A row leaves when its rewards are known: which rows were seen before a window is paid depends on how late the
        answers are, except with ``--run.deterministic``, which waits for each.
        """

    def state(self) -> dict[str, np.ndarray]:
        """What a checkpoint must keep of the memory."""
        return {}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Puts back what :meth:`state` gave."""


def is_ours(path: str) -> bool:
    """Whether ``module:Class`` is a reward of the project's, and so needs nothing but what the project installs."""
    return path.startswith("genreward_jax.")
