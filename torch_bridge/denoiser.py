"""Capabilities ``denoise_error`` and ``next_frame_log_likelihood``: what a diffusion model finds likely."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from genreward_jax.errors import UserError
from genreward_jax.rewards.base import Denoising
from torch_bridge.families import Family
from torch_bridge.generation import making
from torch_bridge.pipeline import load_pipeline
from torch_bridge.training.denoising import Denoising as Objective
from torch_bridge.training.denoising import encode_text, scaled_image

AT_ONCE = 16  # predictions in one call of a model: more win nothing on a CPU and fill a GPU


class _Denoiser:
    """What the two kinds of model have in common; a subclass encodes clips and texts and predicts noise."""

    def __init__(self, pipeline: Any, device: torch.device) -> None:
        self.pipeline, self.device = pipeline, device
        levels = pipeline.scheduler.alphas_cumprod.float()
        self.signal, self.noise = levels.sqrt().to(device), (1 - levels).sqrt().to(device)
        self._texts: dict[str, torch.Tensor] = {}

    def _latents(self, frames: torch.Tensor, history: bool) -> tuple[torch.Tensor, Any]:
        """Float (B, T, 3, H, W) in [-1, 1] to latents (B, f, C, h, w), and what else the prediction wants of a clip."""
        raise NotImplementedError

    def _own(self, frames: torch.Size, latents: torch.Size) -> tuple[slice, ...]:
        """Where in latents (B, f, C, h, w) the clip of pixels (B, T, 3, H, W) itself is; the rest is not judged."""
        return (slice(None),)

    def _encode(self, text: str) -> torch.Tensor:
        raise NotImplementedError

    def _predict(self, noised: torch.Tensor, of_clip: Any, text: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """The model's own output for noised latents (B, f, C, h, w)."""
        raise NotImplementedError

    @torch.inference_mode()
    def denoise_error(self, asked: list[Denoising]) -> list[np.ndarray]:
        """Answers of :meth:`genreward_jax.rewards.base.Models.denoise_error`, for alike requests together."""
        found = []
        for noise, _, with_text, without in self._predictions(asked):
            wrong = (with_text - noise).square().mean((2, 3, 4))
            unknown = torch.full_like(wrong, float("nan"))
            other = unknown if without is None else (without - noise).square().mean((2, 3, 4))
            gap = unknown if without is None else (with_text - without).square().mean((2, 3, 4))
            found.append(torch.stack([wrong, other, gap], -1))
        return self._apart(torch.cat(found), asked)

    @torch.inference_mode()
    def next_frame_log_likelihood(self, asked: list[Denoising]) -> list[np.ndarray]:
        """Answers of :meth:`genreward_jax.rewards.base.Models.next_frame_log_likelihood`, likewise."""
        found = []
        for noise, step, predicted, _ in self._predictions(asked):
            # x - x_predicted = (noise_predicted - noise) spread / signal; each step counts with its loss of
            # signal-to-noise, and the levels are a sample of all steps.
            ratio = (self.signal / self.noise).square()
            lost = (torch.cat([ratio[:1], ratio[:-1]]) - ratio)[step]
            weight = 0.5 * len(ratio) * lost / ratio[step].clamp_min(1e-12)
            found.append(-weight[:, None] * (predicted - noise).square().mean((2, 3, 4)))
        return [answer.mean(0)[1:] for answer in self._apart(torch.cat(found), asked)]

    def _predictions(self, asked: list[Denoising]):
        """Noise, steps and noise predicted with and without the text, of some (request, level) pairs at a time.

        The noises are (pairs, f, C, h, w) of the clip itself, without what fills it up to what the model takes.
        """
        frames = torch.from_numpy(np.stack([one.frames for one in asked])).to(self.device)
        frames = frames.permute(0, 1, 4, 2, 3).float() / 127.5 - 1
        latents, of_clip = self._latents(frames, asked[0].history)
        shape, last = latents.shape[1:], len(self.signal) - 1
        own = self._own(frames.shape, latents.shape)
        rows = [(i, level, one.seed + j) for i, one in enumerate(asked) for j, level in enumerate(one.levels)]
        for begin in range(0, len(rows), AT_ONCE):
            part = rows[begin : begin + AT_ONCE]
            index = torch.tensor([i for i, _, _ in part], device=self.device)
            step = torch.tensor([min(last, int(level * (last + 1))) for _, level, _ in part], device=self.device)
            # Drawn on the CPU, so that it is the same on every device.
            noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(s)) for _, _, s in part])
            noise = noise.to(self.device)
            signal, spread = (table[step].view(-1, 1, 1, 1, 1) for table in (self.signal, self.noise))
            noised, clip = signal * latents[index] + spread * noise, of_clip[index]
            texts = torch.cat([self._text(asked[i].text) for i, _, _ in part])
            with_text = self._noise_of(self._predict(noised, clip, texts, step), noised, signal, spread)
            without = None
            if asked[0].compare:
                empty = self._text("").expand_as(texts)
                without = self._noise_of(self._predict(noised, clip, empty, step), noised, signal, spread)[own]
            yield noise[own], step, with_text[own], without

    def _noise_of(self, output, noised, signal, spread) -> torch.Tensor:
        """The predicted noise, whatever the model predicts."""
        kind = self.pipeline.scheduler.config.prediction_type
        output = output.float()
        if kind == "epsilon":
            return output
        if kind == "v_prediction":
            return signal * output + spread * noised
        raise UserError(f"a diffusion model that predicts {kind!r} is not understood: epsilon or v_prediction")

    def _text(self, text: str) -> torch.Tensor:
        if text not in self._texts:
            if len(self._texts) > 256:  # a goal has a handful
                self._texts.clear()
            self._texts[text] = self._encode(text)
        return self._texts[text]

    def _apart(self, answers: torch.Tensor, asked: list[Denoising]) -> list[np.ndarray]:
        ends = np.cumsum([len(one.levels) for one in asked])[:-1]
        return np.split(answers.float().cpu().numpy(), ends)


class VideoDenoiser(_Denoiser):
    """A CogVideoX image-to-video pipeline: clips of 4k + 1 frames, the first one shown to it or withheld."""

    def __init__(self, family: Family, device: torch.device) -> None:
        self.made = making(family)
        super().__init__(load_pipeline(family, self.made, device), device)
        self.model = self.pipeline.transformer
        self.model.eval().requires_grad_(False)
        self._objective = Objective(self.model, self.pipeline.scheduler, self.pipeline).to(device)

    def _latents(self, frames: torch.Tensor, history: bool) -> tuple[torch.Tensor, torch.Tensor]:
        vae = self.pipeline.vae
        count = frames.shape[1]
        if (count - 1) % vae.config.temporal_compression_ratio:
            raise UserError(f"a video diffusion model takes clips of 4k + 1 frames, not {count}: 5 or 9, say")
        inner, sides = self._place(frames.shape[-2:])
        pixels = F.interpolate(frames.flatten(0, 1), inner, mode="bilinear", antialias=True, align_corners=False)
        pixels = F.pad(pixels, sides, mode="replicate")
        pixels = pixels.unflatten(0, frames.shape[:2]).transpose(1, 2).to(vae.dtype)
        latents = vae.encode(pixels).latent_dist.mean.transpose(1, 2).float() * vae.config.scaling_factor
        first = vae.encode(pixels[:, :, :1]).latent_dist.mean.transpose(1, 2).float()
        return self._objective._padded(latents, scaled_image(first, vae) * float(history))

    def _own(self, frames: torch.Size, latents: torch.Size) -> tuple[slice, ...]:
        filling = latents[1] - (frames[1] - 1) // self.pipeline.vae.config.temporal_compression_ratio - 1
        inner, (left, _, top, _) = self._place(frames[-2:])
        grain = self.pipeline.vae_scale_factor_spatial
        rows, columns = (
            slice(-(-begin // grain), (begin + length) // grain)
            for begin, length in zip((top, left), inner, strict=True)
        )
        return slice(None), slice(filling, None), slice(None), rows, columns  # 1.5 takes latent frames in pairs

    def _place(self, given: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
        """Size that frames are brought to, and what is repeated of them on the left, right, top and bottom.

        Proportions are kept and borders repeated, as ``make goal`` and ``make finetune`` do for an oblong model.
        """
        size = self._size(given)
        scale = min(size[0] / given[0], size[1] / given[1])
        inner = tuple(min(side, round(own * scale)) for side, own in zip(size, given, strict=True))
        above, beside = size[0] - inner[0], size[1] - inner[1]
        return inner, (beside // 2, beside - beside // 2, above // 2, above - above // 2)

    def _size(self, given: tuple[int, int]) -> tuple[int, int]:
        """The model's own size where its positions are learned or the frames are larger; else the frames' own."""
        grain = 2 * self.pipeline.vae_scale_factor_spatial
        if self.made.fixed or max(given) > max(self.made.height, self.made.width):
            return self.made.height, self.made.width
        return tuple(max(grain, side // grain * grain) for side in given)

    def _encode(self, text: str) -> torch.Tensor:
        return encode_text(self.pipeline, [text], self.made.max_text, self.device)

    def _predict(self, noised, of_clip, text, step) -> torch.Tensor:
        dtype = self.model.dtype
        return self._objective._predict(noised.to(dtype), of_clip.to(dtype), text.to(dtype), step)


class ImageDenoiser(_Denoiser):
    """Stable Diffusion: clips of one frame."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        from diffusers import StableDiffusionPipeline

        pipeline = StableDiffusionPipeline.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, safety_checker=None,
            feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
        super().__init__(pipeline.to(device), device)
        self.model = pipeline.unet
        self.size = int(self.model.config.sample_size) * pipeline.vae_scale_factor  # pixels of a picture's side
        self.model.eval().requires_grad_(False)

    def _latents(self, frames: torch.Tensor, history: bool) -> tuple[torch.Tensor, torch.Tensor]:
        if frames.shape[1] != 1:
            raise UserError(f"a diffusion model of images takes one frame at a time, not {frames.shape[1]}")
        vae = self.pipeline.vae
        pixels = F.interpolate(
            frames[:, 0], (self.size, self.size), mode="bilinear", antialias=True, align_corners=False
        )
        latents = vae.encode(pixels.to(vae.dtype)).latent_dist.mean.float() * vae.config.scaling_factor
        return latents[:, None], torch.zeros(len(frames), device=self.device)

    def _encode(self, text: str) -> torch.Tensor:
        return self.pipeline.encode_prompt(text, self.device, 1, do_classifier_free_guidance=False)[0]

    def _predict(self, noised, of_clip, text, step) -> torch.Tensor:
        dtype = self.model.dtype
        return self.model(noised[:, 0].to(dtype), step, encoder_hidden_states=text.to(dtype)).sample[:, None]
