"""The recipe of the embedded family: four parts, each trained from nothing on the rendered data set.

    python -m torch_bridge.training.embedded --part vae|transformer|clip|dino --data DIR --work DIR

``make models`` runs them all. Each part is resumable and leaves its model under ``WORK/family/<part>``, in the
library's own folder format; the part 'transformer' needs the part 'vae'.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch

from genreward_jax.cache import make_once
from genreward_jax.errors import UserError
from torch_bridge.repairs import repair_torchvision
from torch_bridge.training import loop, rendered

SIZE = 64
FRAMES = 17  # of a goal video, one every 8 simulator steps: the 128 steps of one reward window
VALIDATION = "-025.mp4"  # the last expert of each task is never trained on


def split(videos: list[rendered.Video]) -> tuple[list[rendered.Video], list[rendered.Video]]:
    """Videos to train on, and those held back for validation."""
    held = [v for v in videos if v.row["file_name"].endswith(VALIDATION)]
    kept = [v for v in videos if not v.row["file_name"].endswith(VALIDATION)]
    return kept, held


def start(work: Path) -> Path:
    """The untrained family that all parts begin with."""
    from torch_bridge import embedded

    return make_once(work / "untrained", embedded.make)


def train_vae(data: Path, work: Path, steps: int) -> None:
    """The autoencoder, on clips of 9 frames from every behaviour in both qualities."""
    from diffusers import AutoencoderKLCogVideoX

    from torch_bridge.training import vae

    model = AutoencoderKLCogVideoX.from_pretrained(start(work) / "vae", torch_dtype=torch.float32)
    kept, held = split(rendered.load(data))
    full = [v for v in kept if v.row["quality"] == "full"]
    fast = [v for v in kept if v.row["quality"] == "fast"]

    def batch(rng: np.random.Generator) -> np.ndarray:
        # A quarter in full quality, though it is a tenth of the data: users have both.
        sources = [full if full and rng.random() < 0.25 else fast for _ in range(4)]
        videos = [source[rng.integers(len(source))] for source in sources]
        return np.stack([rendered.clip(video, rng, 9, (4, 8, 16)) for video in videos])

    rng = np.random.default_rng(0)
    checks = np.stack([rendered.clip(video, rng, 17, (8,)) for video in held[:24]])
    settings = loop.Settings(steps=steps, lr=1e-3, warmup=100, decay=0.5, validate_every=500, seed=1)
    measure = vae.validation(model, checks)
    loop.fit(vae.Reconstruction(model), batch, settings, work / "vae", "vae", "bf16", measure)
    _set_scaling(model, kept)
    model.to(torch.float16).save_pretrained(work / "family" / "vae", safe_serialization=True)


def _set_scaling(model, kept: list[rendered.Video]) -> None:
    """The factor by which latents become of spread 1, as the diffusion model wants them."""
    from torch_bridge.training.vae import to_pixels

    rng = np.random.default_rng(3)
    clips = np.stack([rendered.clip(kept[rng.integers(len(kept))], rng, 17, (8,)) for _ in range(64)])
    with torch.no_grad():
        spread = torch.cat([model.encode(to_pixels(torch.from_numpy(c[None]))).latent_dist.mean for c in clips]).std()
    model.register_to_config(scaling_factor=round(float(1 / spread), 4))


STEPS = {"vae": 2400, "transformer": 8000, "clip": 4000, "dino": 4000}


def main(argv: list[str] | None = None) -> int:
    """Trains one part; the exit code is 2 where the user can mend what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m torch_bridge.training.embedded")
    parser.add_argument("--part", required=True, choices=tuple(STEPS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    repair_torchvision()
    try:
        {"vae": train_vae}[args.part](args.data, args.work, args.steps or STEPS[args.part])
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
