"""The autoencoder's recipe."""

from pathlib import Path

import numpy as np
import torch

from torch_bridge.training import augment, loop, rendered
from torch_bridge.training.recipe.common import split, start

PLAIN = 5 / 9  # share of the steps on the scenes as they were rendered


def train(data: Path, work: Path, steps: int) -> None:
    """The autoencoder, on clips from every behaviour in both qualities; the later steps see strange ones.

    With rendered scenes alone it learns those scenes: the blue bin and the shelf of tasks that it had not seen came
    back as wood (22 and 25 dB). So the last part of the steps sees shapes and colours of all kinds.
    """
    from diffusers import AutoencoderKLCogVideoX

    from torch_bridge.training import vae

    model = AutoencoderKLCogVideoX.from_pretrained(start(work) / "vae", dtype=torch.float32)
    kept, held = split(rendered.load(data))
    full = [v for v in kept if v.row["quality"] == "full"]
    fast = [v for v in kept if v.row["quality"] == "fast"]

    def clips(rng: np.random.Generator, number: int, frames: int) -> np.ndarray:
        # A quarter in full quality, though it is a tenth of the data: users have both.
        sources = [full if full and rng.random() < 0.25 else fast for _ in range(number)]
        videos = [source[rng.integers(len(source))] for source in sources]
        return np.stack([rendered.clip(video, rng, frames, (4, 8, 16)) for video in videos])

    def strange(rng: np.random.Generator) -> torch.Tensor:
        return augment.scenes(torch.from_numpy(clips(rng, 4, 9)), 0.7)

    rng = np.random.default_rng(0)
    checks = np.stack([rendered.clip(video, rng, 17, (8,)) for video in held[:24]])
    measure, plain = vae.validation(model, checks), max(1, round(steps * PLAIN))
    first = loop.Settings(steps=plain, lr=1e-3, warmup=100, decay=0.5, validate_every=500, seed=1)
    loop.fit(vae.Reconstruction(model), lambda rng: clips(rng, 4, 9), first, work / "vae", "vae", "bf16", measure)
    second = loop.Settings(steps=steps - plain, lr=1e-3, warmup=50, decay=0.6, validate_every=300, seed=5)
    loop.fit(vae.Reconstruction(model), strange, second, work / "vae-strange", "vae, strange scenes", "bf16", measure)
    model.cpu()
    _set_scaling(model, kept)
    model.to(torch.float16).save_pretrained(work / "embedded" / "vae", safe_serialization=True)


def _set_scaling(model, kept: list[rendered.Video]) -> None:
    """The factor by which latents become of spread 1, as the diffusion model wants them."""
    from torch_bridge.training.vae import to_pixels

    rng = np.random.default_rng(3)
    clips = np.stack([rendered.clip(kept[rng.integers(len(kept))], rng, 17, (8,)) for _ in range(64)])
    with torch.no_grad():
        spread = torch.cat([model.encode(to_pixels(torch.from_numpy(c[None]))).latent_dist.mean for c in clips]).std()
    model.register_to_config(scaling_factor=round(float(1 / spread), 4))
