"""Latents and text embeddings, computed once and kept as safetensors, so that the models behind them can go.

A video's file holds mean and spread of its latents' distribution, and of its first frame's: once clean and several
times under fresh noise. Files appear whole, so a run that was stopped goes on with the next one.
"""

import gc
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genreward_jax.datasets import clips
from genreward_jax.datasets.clips import BadVideo, Episode
from torch_bridge.training.denoising import encode_text, scaled_image
from torch_bridge.training.vae import to_pixels

NOISED = 4  # first frames under noise that are kept of each video


@dataclass(frozen=True)
class Shape:
    """What a video becomes before the model sees it: frames, pixels, and how it is fitted into them."""

    frames: int
    height: int
    width: int
    stride: int
    fit: str

    def read(self, episode: Episode) -> np.ndarray:
        """uint8 (frames, height, width, 3).

        Raises:
            BadVideo: Unreadable.
        """
        places = clips.places(clips.length(episode), self.frames, self.stride)
        return clips.read(episode, places, (self.height, self.width), self.fit)


class Cache:
    """Folder of one run's latents and text embeddings."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.load_text = lru_cache(maxsize=256)(self._load_text)

    def video(self, episode: Episode) -> Path:
        """Where an episode's latents are; a changed file has another place."""
        seen = episode.path.stat()
        key = f"{episode.path.name} {episode.name} {episode.start} {episode.end} {seen.st_size} {seen.st_mtime_ns}"
        return self._folder / f"video-{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"

    def text(self, text: str) -> Path:
        """Where a caption's embedding is."""
        return self._folder / f"text-{hashlib.sha256(text.encode()).hexdigest()[:24]}.safetensors"

    def bad(self, episode: Episode) -> str:
        """Why an episode could not be encoded; '' if it could."""
        note = self.video(episode).with_suffix(".bad")
        return note.read_text() if note.is_file() else ""

    def load_video(self, episode: Episode) -> dict[str, torch.Tensor]:
        """float16 'mean', 'std' (F, C, h, w) and 'image_mean', 'image_std' (1 + noised, C, h, w), scaled."""
        from safetensors.torch import load_file

        return load_file(self.video(episode))

    def _load_text(self, text: str) -> torch.Tensor:
        from safetensors.torch import load_file

        return load_file(self.text(text))["text"]


def encode_videos(
    vae: Any, episodes: list[Episode], shape: Shape, cache: Cache, noise: float, seed: int, bar: Callable
) -> None:
    """Fills the cache with latents; a video that cannot be read leaves a note instead.

    Args:
        vae: On its device.
        noise: Middle spread of the noise on first frames, log-normal (diffusers' example: e^-3); 0 is none.
        bar: Wraps the list in a progress bar.
    """
    for episode in bar(episodes):
        target = cache.video(episode)
        if target.is_file() or target.with_suffix(".bad").is_file():
            continue
        try:
            frames = shape.read(episode)
        except BadVideo as error:
            _whole(target.with_suffix(".bad"), lambda part, why=str(error): part.write_text(why))
            continue
        # Of its name, not of its place in the list or of the file's time: another machine sees the same noise.
        own = hashlib.sha256(f"{seed} {episode.name} {episode.start}".encode()).digest()
        rng = torch.Generator().manual_seed(int.from_bytes(own[:7]))
        save_tensors(target, _moments(vae, frames, noise, rng))


@torch.no_grad()
def _moments(vae: Any, frames: np.ndarray, noise: float, rng: torch.Generator) -> dict[str, torch.Tensor]:
    parameter = next(vae.parameters())
    pixels = to_pixels(torch.from_numpy(frames)[None])
    images = pixels[:, :, :1].repeat(1 + NOISED * bool(noise), 1, 1, 1, 1)
    if noise:
        spread = noise * torch.exp(0.5 * torch.randn(NOISED, 1, 1, 1, 1, generator=rng))
        images[1:] += spread * torch.randn(images[1:].shape, generator=rng)

    def encode(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = vae.encode(batch.to(parameter)).latent_dist
        return found.mean.float(), found.std.float()

    mean, std = (part[0].transpose(0, 1) * vae.config.scaling_factor for part in encode(pixels))
    image_mean, image_std = (scaled_image(part[:, :, 0], vae) for part in encode(images))
    found = {"mean": mean, "std": std, "image_mean": image_mean, "image_std": image_std}
    return {key: value.half().cpu() for key, value in found.items()}


def encode_texts(pipeline: Any, texts: list[str], length: int, cache: Cache, device: torch.device) -> None:
    """Fills the cache with captions' embeddings, (length, D) each."""
    for text in texts:
        if not cache.text(text).is_file():
            save_tensors(cache.text(text), {"text": encode_text(pipeline, [text], length, device)[0].cpu()})


def sample_batch(cache: Cache, episodes: list[Episode], rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """What :class:`torch_bridge.training.denoising.Denoising` takes: latents drawn from their distributions."""
    made: dict[str, list] = {"latents": [], "image": [], "text": []}
    for episode in episodes:
        found = {key: value.float() for key, value in cache.load_video(episode).items()}
        noised = len(found["image_mean"]) - 1
        which = 1 + int(rng.integers(noised)) if noised else 0
        made["latents"].append(_drawn(found["mean"], found["std"]))
        made["image"].append(_drawn(found["image_mean"][which], found["image_std"][which])[None])
        made["text"].append(cache.load_text(episode.text))
    return {key: torch.stack(values) for key, values in made.items()}


def fixed_sample(cache: Cache, episode: Episode) -> dict[str, torch.Tensor]:
    """One episode as a batch without chance: the distributions' means, the clean first frame."""
    found = cache.load_video(episode)
    return {
        "latents": found["mean"].float()[None],
        "image": found["image_mean"][:1].float()[None],
        "text": cache.load_text(episode.text)[None],
    }


def _drawn(mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    return mean + std * torch.randn_like(mean)


def save_tensors(target: Path, tensors: dict[str, torch.Tensor]) -> None:
    """A safetensors file that appears whole."""
    from safetensors.torch import save_file

    whole = {key: value.contiguous() for key, value in tensors.items()}
    _whole(target, lambda part: save_file(whole, part))


def _whole(target: Path, write: Callable[[Path], Any]) -> None:
    part = target.with_name(f".{target.name}-{os.getpid()}")
    write(part)
    part.replace(target)


def share(items: list, rank: int, processes: int) -> list:
    """One process's part of a list."""
    return items[rank::processes]


def release() -> None:
    """Gives the memory of models that nothing names any more back, the GPU's too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
