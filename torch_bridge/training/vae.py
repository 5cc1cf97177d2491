"""The objective of a CogVideoX autoencoder: reconstruction, with a slight pull of the latents to a normal."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

KL_WEIGHT = 1e-6


class Reconstruction(nn.Module):
    """Loss of a batch of clips, uint8 (B, T, H, W, 3): absolute and ten times squared error, and the KL divergence."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, clips: torch.Tensor) -> dict[str, torch.Tensor]:
        pixels = to_pixels(clips)
        posterior = self.vae.encode(pixels).latent_dist
        made = self.vae.decode(posterior.sample()).sample.float()
        error = made - pixels
        absolute, squared = error.abs().mean(), error.square().mean()
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        loss = absolute + 10 * squared + KL_WEIGHT * divergence * mean[0].numel()
        return {"loss": loss, "psnr": psnr(squared), "kl": divergence}


def to_pixels(clips: torch.Tensor) -> torch.Tensor:
    """uint8 (B, T, H, W, 3) to float32 (B, 3, T, H, W) in [-1, 1]."""
    return clips.permute(0, 4, 1, 2, 3).float() * (2 / 255) - 1


def psnr(squared: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB, of the mean squared error of pixels in [-1, 1]."""
    return 10 * torch.log10(4 / squared.clamp_min(1e-10))


def validation(vae: nn.Module, clips: np.ndarray) -> Callable[[int], dict[str, float]]:
    """Mean PSNR over held-back clips, uint8 (N, T, H, W, 3), decoded from the posterior's mean."""

    def measure(_: int) -> dict[str, float]:
        return {"psnr": float(np.mean([reconstruction_psnr(vae, clip) for clip in clips]))}

    return measure


@torch.no_grad()
def reconstruction_psnr(vae: nn.Module, frames: np.ndarray) -> float:
    """PSNR in dB of one video, uint8 (T, H, W, 3), through the autoencoder and back, clipped to what can be shown."""
    device = next(vae.parameters()).device
    pixels = to_pixels(torch.from_numpy(np.ascontiguousarray(frames))[None].to(device))
    dtype = next(vae.parameters()).dtype
    made = vae.decode(vae.encode(pixels.to(dtype)).latent_dist.mode()).sample.float().clamp(-1, 1)
    return float(psnr((made - pixels).square().mean()))
