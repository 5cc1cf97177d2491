"""Fine-tuning of the autoencoder on clips read from the disk as they are needed."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from genreward_jax.datasets import clips
from genreward_jax.datasets.clips import BadVideo, Episode
from torch_bridge.training import previews, vae
from torch_bridge.training.job import Job
from torch_bridge.training.transformer import dtype_on_disk, load_vae
from torch_bridge.training.video_folder import bar_for, complain

HOPS = (1, 2, 4)  # frames from one of a clip to the next, where no --stride is given


def train(job: Job, result: Path) -> dict[str, Any]:
    """Trains and writes the new autoencoder into ``result``; gives what belongs into its ``family.json``."""
    job.divide(_readable(job))
    dtype = dtype_on_disk(job.family.part("vae"))
    model = load_vae(job).float()
    model.requires_grad_(True)
    if job.checkpointing:
        model.enable_gradient_checkpointing()
    checks = [job.shape.read(episode) for episode in job.held[:8]]

    def batch(rng: np.random.Generator) -> np.ndarray:
        rows = rng.integers(len(job.kept), size=job.options.micro)
        return np.stack([clip(job, job.kept[i], rng) for i in rows])

    def measure(step: int) -> dict[str, float]:
        with torch.random.fork_rng(), torch.no_grad():
            if job.previews_due(step):
                for number, frames in enumerate(checks[: job.options.videos]):
                    name = f"video-{number}"
                    previews.write(job.previews(step), name, frames, _rebuilt(model, frames), job.made.fps)
            return {"psnr": float(np.mean([vae.reconstruction_psnr(model, frames) for frames in checks]))}

    job.fit(vae.Reconstruction(model), batch, measure)
    if not job.state.is_main_process:
        return {}
    model.to(dtype).save_pretrained(result / "vae", safe_serialization=True)
    return {"folders": {"vae": "vae"}}


def clip(job: Job, episode: Episode, rng: np.random.Generator) -> np.ndarray:
    """Frames of an episode from a random start, uint8 (frames, height, width, 3)."""
    shape, total = job.shape, clips.length(episode)
    fitting = [hop for hop in ((shape.stride,) if shape.stride else HOPS) if (shape.frames - 1) * hop < total]
    if not fitting:  # a short video: evenly, some frames twice
        return shape.read(episode)
    hop = int(rng.choice(fitting))
    start = int(rng.integers(total - (shape.frames - 1) * hop))
    wanted = start + hop * np.arange(shape.frames)
    return clips.read(episode, wanted, (shape.height, shape.width), shape.fit)


def _readable(job: Job) -> list[Episode]:
    """The episodes that can be decoded to their end: a clip may begin anywhere in them."""
    good, bad = [], []
    for episode in bar_for("reading", job.state.is_main_process)(job.kept):
        try:
            clips.read(episode, np.array([clips.length(episode) - 1]), (job.shape.height, job.shape.width))
            good.append(episode)
        except BadVideo as error:
            bad.append(f"{episode.name}: {error}")
    said = complain(job.options.data, len(good), bad, job.options.bad == "skip")
    if said:
        job.say(said)
    return good


@torch.no_grad()
def _rebuilt(model: Any, frames: np.ndarray) -> np.ndarray:
    pixels = vae.to_pixels(torch.from_numpy(frames)[None].to(next(model.parameters()).device))
    return previews.to_frames(model.decode(model.encode(pixels).latent_dist.mode()).sample[0])
