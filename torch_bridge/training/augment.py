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


def scenes(clips: torch.Tensor, share: float) -> torch.Tensor:
    """Makes most clips unlike any that were rendered, so that an autoencoder learns to see and not to remember.

    The clip as a whole is mirrored, its channels are swapped and shifted, and flat shapes of any colour are laid on it
    or move across it. Nothing of this would be right for a model that must know left from right, or red from blue.

    Args:
        clips: uint8 (B, T, H, W, 3).
        share: Of the clips that are changed.

    Returns:
        uint8, as the input.
    """
    made = clips.clone()
    for index in range(len(clips)):
        if torch.rand(()) < share:
            made[index] = _scene(clips[index])
    return made


def _scene(clip: torch.Tensor) -> torch.Tensor:
    clip = clip.float()
    if torch.rand(()) < 0.5:
        clip = clip.flip(2)
    if torch.rand(()) < 0.3:
        clip = clip.flip(1)
    if torch.rand(()) < 0.5:
        clip = clip[..., torch.randperm(3)]
    gain, shift = torch.empty(3).uniform_(0.6, 1.3), torch.empty(3).uniform_(-40, 40)
    clip = clip * gain + shift
    for _ in range(int(torch.randint(1, 6, ()))):
        clip = _with_shape(clip)
    return clip.clamp(0, 255).to(torch.uint8)


def _with_shape(clip: torch.Tensor) -> torch.Tensor:
    """A flat or striped box or ellipse, turned by some angle, at rest or moving."""
    frames, height, width, _ = clip.shape
    rows, columns = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    size = torch.empty(2).uniform_(1.5, 16)
    centre = torch.rand(2) * torch.tensor([height, width])
    speed = torch.empty(2).uniform_(-12, 12) * float(torch.rand(()) < 0.5) / max(1, frames - 1)
    angle = torch.rand(()) * torch.pi
    time = torch.arange(frames).float().view(-1, 1, 1)
    down, right = rows - centre[0] - speed[0] * time, columns - centre[1] - speed[1] * time
    along = (down * angle.cos() + right * angle.sin()) / size[0]
    across = (right * angle.cos() - down * angle.sin()) / size[1]
    box = torch.rand(()) < 0.6
    far = torch.maximum(along.abs(), across.abs()) if box else (along.square() + across.square()).sqrt()
    # Edges as soft as those of the renderer, which averages 2x2 pixels.
    inside = ((1 - far) * size.min() + 0.5).clamp(0, 1)[..., None]
    colour = torch.rand(3) * 255
    if torch.rand(()) < 0.3:
        colour = colour + 30 * torch.sin(along * torch.empty(()).uniform_(2, 9))[..., None]
    return clip * (1 - inside) + inside * colour
