"""Capability ``encode_video``: CogVideoX's causal video autoencoder (eq. 3 and 4)."""

from pathlib import Path
from types import MethodType

import numpy as np
import torch


class VideoEncoder:
    """``diffusers.AutoencoderKLCogVideoX``, encoding only: frames to the posterior's mean.

    The mean is not multiplied by the pipeline's scaling factor (0.7 for 5B-I2V): the cosine of eq. 5 does not change
    with it, and who compares latents in another way sees the autoencoder's own numbers.
    """

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        from diffusers import AutoencoderKLCogVideoX

        self.model = AutoencoderKLCogVideoX.from_pretrained(
            folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True
        )
        self.model.to(device).eval().requires_grad_(False)
        del self.model.decoder  # only the encoder is needed while an agent trains
        self.device, self.dtype = device, dtype
        if device.type == "cpu":
            self.model.enable_slicing()  # one video after the other stays in the caches: 75 ms each instead of 110
        if device.type == "cpu" and dtype == torch.float32 and torch.backends.mkldnn.is_available():
            for module in self.model.modules():
                if isinstance(module, torch.nn.Conv3d):
                    module._conv_forward = MethodType(_onednn_convolution, module)

    @torch.inference_mode()
    def encode_video(self, frames: np.ndarray) -> np.ndarray:
        """uint8 (B, T, H, W, 3) to the posterior's mean, float32 (B, C, t, h, w); 16 frames give 4 latent ones."""
        pixels = torch.from_numpy(frames).to(self.device).permute(0, 4, 1, 2, 3)
        pixels = pixels.to(torch.float32).mul_(2 / 255).sub_(1)  # to [-1, 1]
        mean = self.model.encode(pixels.to(self.dtype)).latent_dist.mean
        return mean.float().cpu().numpy()


def _onednn_convolution(
    self: torch.nn.Conv3d, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """The same convolution by oneDNN, which torch 2.13 passes over for a single small video: 50 ms instead of 270.

    Its rule looks at the batch and the first three sizes only; a large video or a batch of two takes this way anyhow.
    """
    return torch.mkldnn_convolution(
        inputs.contiguous(), weight, bias, self.padding, self.stride, self.dilation, self.groups
    )
