"""Random views of pictures, a whole batch at once: crops, colours and blur; never mirrored, left and right matter."""

import torch
import torch.nn.functional as F


def random_crops(images: torch.Tensor, size: int, scale: tuple[float, float]) -> torch.Tensor:
    """A crop of each picture, whose side is a random share of the whole, resized.

    Args:
        images: float (N, 3, H, W).
        size: Side of the crops in pixels.
        scale: Smallest and largest share of the side.

    Returns:
        float (N, 3, ``size``, ``size``).
    """
    count, device = len(images), images.device
    side = torch.empty(count, device=device).uniform_(*scale)
    place = (torch.rand(count, 2, device=device) * 2 - 1) * (1 - side)[:, None]
    matrix = torch.zeros(count, 2, 3, device=device)
    matrix[:, 0, 0] = matrix[:, 1, 1] = side
    matrix[:, :, 2] = place
    grid = F.affine_grid(matrix, [count, 3, size, size], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def colours(images: torch.Tensor, strength: float) -> torch.Tensor:
    """Brightness, contrast and each channel's gain drawn for every picture; values stay in [0, 1]."""
    shape = (len(images), 1, 1, 1)
    spread = lambda *s: 1 + strength * (2 * torch.rand(s, device=images.device) - 1)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * spread(*shape) + mean * spread(*shape)
    return (images * (1 + (spread(len(images), 3, 1, 1) - 1) / 2)).clamp(0, 1)


def blur(images: torch.Tensor, share: float) -> torch.Tensor:
    """Blurs a share of the pictures as if drawn at a half to nine tenths of the size."""
    chosen = torch.rand(len(images), device=images.device) < share
    if not chosen.any():
        return images
    factor = float(torch.empty(1).uniform_(0.5, 0.9))
    small = F.interpolate(images[chosen], scale_factor=factor, mode="bilinear", antialias=True)
    images = images.clone()
    images[chosen] = F.interpolate(small, images.shape[-2:], mode="bilinear").to(images.dtype)
    return images
