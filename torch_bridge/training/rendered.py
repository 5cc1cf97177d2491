"""The rendered data set in memory: frames, phases and captions, and clips drawn from it."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genreward_jax.video import read_frames


@dataclass
class Video:
    """One episode; ``row`` is its line of ``metadata.jsonl``."""

    frames: np.ndarray
    row: dict


def load(folder: Path) -> list[Video]:
    """All videos of a folder made by ``genreward_jax.demonstrations.render``."""
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    with ThreadPoolExecutor(4) as pool:
        frames = pool.map(lambda row: read_frames(folder / row["file_name"]), rows)
        return [Video(array, row) for array, row in zip(frames, rows, strict=True)]


def clip(video: Video, rng: np.random.Generator, count: int, strides: tuple[int, ...]) -> np.ndarray:
    """``count`` frames, one every so many simulator steps (one of ``strides`` that fits), from a random start.

    Returns:
        uint8, (count, H, W, 3).
    """
    own = video.row["stride"]
    fitting = [max(1, s // own) for s in strides if s >= own and (count - 1) * (s // own) < len(video.frames)]
    hop = int(rng.choice(fitting))
    start = int(rng.integers(len(video.frames) - (count - 1) * hop))
    return video.frames[start : start + (count - 1) * hop + 1 : hop]
