"""What a person looks at during fine-tuning: a held-back video beside what the model makes of its first frame."""

from pathlib import Path

import numpy as np
import torch

from genreward_jax.video import write_video

SHOWN = 9  # frames in a strip
GAP = 4  # white pixels between pictures


def write(folder: Path, name: str, true: np.ndarray, made: np.ndarray, fps: float) -> None:
    """``<name>.mp4`` with the true video on the left, and ``<name>.png`` with its frames above the made ones.

    Args:
        true, made: uint8 (N, H, W, 3).
        fps: Of the mp4.
    """
    from PIL import Image

    true, made = _enlarged(true), _enlarged(made)
    gap = np.full((*true.shape[:2], GAP, 3), 255, np.uint8)
    write_video(folder / f"{name}.mp4", np.concatenate([true, gap, made], 2), fps)
    wanted = np.rint(np.linspace(0, len(true) - 1, min(SHOWN, len(true)))).astype(int)
    rows = [_row(frames[wanted]) for frames in (true, made)]
    between = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    Image.fromarray(np.concatenate([rows[0], between, rows[1]])).save(folder / f"{name}.png")


def _enlarged(frames: np.ndarray) -> np.ndarray:
    """Small frames with every pixel repeated, until a person can see something."""
    times = max(1, 128 // frames.shape[1])
    return frames.repeat(times, 1).repeat(times, 2)


def _row(frames: np.ndarray) -> np.ndarray:
    """Frames beside each other with gaps."""
    gap = np.full((frames.shape[1], GAP, 3), 255, np.uint8)
    parts = [part for frame in frames for part in (frame, gap)]
    return np.concatenate(parts[:-1], 1)


def to_frames(pixels: torch.Tensor) -> np.ndarray:
    """float (3, N, H, W) in [-1, 1] to uint8 (N, H, W, 3)."""
    array = pixels.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return array.permute(1, 2, 3, 0).cpu().numpy()
