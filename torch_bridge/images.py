"""Frames as the image models want them."""

import numpy as np
import torch
import torch.nn.functional as F


def to_square(frames: np.ndarray, size: int, mode: str, device: torch.device) -> torch.Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, size, size) in [0, 1]: shorter side to ``size``, then the centre.

    Antialiased, and rounded to 256 levels as the libraries' own transforms do, which resize 8-bit images.
    """
    pixels = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float()
    side = min(pixels.shape[-2:])
    top, left = (pixels.shape[-2] - side) // 2, (pixels.shape[-1] - side) // 2
    pixels = pixels[..., top : top + side, left : left + side]
    if side != size:
        pixels = F.interpolate(pixels, (size, size), mode=mode, antialias=True, align_corners=False)
        pixels = pixels.round().clamp(0, 255)
    return pixels / 255
