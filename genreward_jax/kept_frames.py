"""The large frames that rewards were asked with, kept beside a replay whose rows hold only the agent's small image.

``<run>/reward_frames/<chunk>/<row>.webp``, lossless: a folder a replay chunk, so that frames go when their chunk goes,
and a file a frame, written whole or not at all. At 480x480 a Meta-World frame takes some 210 kB and 14 ms.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np


class KeptFrames:
    """Frames by chunk and row, under a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def put(self, chunk: str, row: int, frame: np.ndarray) -> None:
        """Keeps a frame, uint8 (S, S, 3)."""
        from PIL import Image

        path = self._path(chunk, row)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        Image.fromarray(frame).save(part, format="WEBP", lossless=True, method=0, quality=0)
        os.replace(part, path)

    def has(self, chunk: str, row: int) -> bool:
        return self._path(chunk, row).is_file()

    def get(self, chunk: str, row: int) -> np.ndarray:
        """A kept frame, uint8 (S, S, 3)."""
        from PIL import Image

        with Image.open(self._path(chunk, row)) as image:
            return np.asarray(image.convert("RGB"))

    def keep_only(self, chunks: Iterable[str]) -> None:
        """Removes the frames of all other chunks."""
        known = set(chunks)
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)

    @property
    def side(self) -> int:
        """Pixels of a frame's side; 0 where none is kept."""
        from PIL import Image

        for file in self.folder.glob("*/[0-9]*.webp"):
            with Image.open(file) as image:
                return image.width
        return 0

    def _path(self, chunk: str, row: int) -> Path:
        return self.folder / chunk / f"{row}.webp"
