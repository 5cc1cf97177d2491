"""Capability ``encode_video``: CogVideoX's causal video autoencoder (eq. 3 and 4)."""

from pathlib import Path
from types import MethodType

import numpy as np
import torch

_LARGE = 256 * 256  # pixels of a frame from which on videos are encoded one after the other on a GPU too


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
        del self.model.decoder  # only the encoder is needed while an agent trains
        self.model.to(device).eval().requires_grad_(False)
        self.device, self.dtype = device, dtype
        self._tile_large_frames()
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
        if pixels.shape[-2] * pixels.shape[-1] > _LARGE:
            self.model.enable_slicing()  # on a GPU, small ones are quicker together, and large ones fill its memory
        mean = self.model.encode(pixels.to(self.dtype)).latent_dist.mean
        return mean.float().cpu().numpy()

    def _tile_large_frames(self) -> None:
        """Frames beyond the size that the autoencoder was made for go through it in tiles of that size, blended.

        A tile and its step are whole numbers of latent pixels; the library's own overlaps are so at 480x720 only.
        """
        grain = 4 * 2 ** (len(self.model.config.block_out_channels) - 1)
        height, width = (
            max(side // grain, 1) * grain for side in (self.model.config.sample_height, self.model.config.sample_width)
        )
        self.model.enable_tiling(height, width, 1 / 4, 1 / 4)


def _onednn_convolution(
    self: torch.nn.Conv3d, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """The same convolution by oneDNN, which torch 2.13 passes over for a single small video: 50 ms instead of 270.

    Its rule looks at the batch and the first three sizes only; a large video or a batch of two takes this way anyhow.
    """
    return torch.mkldnn_convolution(
        inputs.contiguous(), weight, bias, self.padding, self.stride, self.dilation, self.groups
    )
