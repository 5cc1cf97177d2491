"""Small videos for tests of training data: frames that tell their own number, and a toy set that can be learned."""

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np


def frames(count: int, first: int = 0, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    """Grey frames; frame i is of brightness 4 (first + i), so a frame tells its own number."""
    levels = (4 * (first + np.arange(count))).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, *size, 3)).copy()


def numbers(array: np.ndarray) -> list[int]:
    """What :func:`frames` counted."""
    return np.rint(array.mean((1, 2, 3)) / 4).astype(int).tolist()


def write(path: Path, array: np.ndarray, codec: str = "libx264rgb", fps: int = 10) -> Path:
    """A video file; lossless with libx264rgb.

    SVT-AV1 gives its caller's threads real-time priority where it runs as root, and all that these start: a thread
    that spins then starves the whole machine (seen: upstream's parallel actor, for minutes). So it gets a process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if codec == "libsvtav1":
        pixels = path.with_suffix(".npy")
        np.save(pixels, array)
        subprocess.run([sys.executable, __file__, str(path), str(pixels), str(fps)], check=True, timeout=120)
        pixels.unlink()
        return path
    return _encode(path, array, codec, fps)


def _encode(path: Path, array: np.ndarray, codec: str, fps: int) -> Path:
    exact = codec == "libx264rgb"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.options = {"crf": "0" if exact else "10", "g": "5", "preset": "fast" if exact else "10"}
        stream.height, stream.width = array.shape[1:3]
        stream.pix_fmt = "rgb24" if exact else "yuv420p"
        for frame in array:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def rows(folder: Path, *entries: dict | str) -> Path:
    """``metadata.jsonl``."""
    folder.mkdir(exist_ok=True)
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def toy_set(folder: Path, count: int = 8, length: int = 12, size: tuple[int, int] = (32, 32)) -> Path:
    """A bright square that moves right or down, as the caption says."""
    rng, entries = np.random.default_rng(0), []
    for index in range(count):
        down, offset = index % 2, int(rng.integers(0, min(size) - 8))
        video = np.full((length, *size, 3), 60, np.uint8)
        for time in range(length):
            place = time * (min(size) - 8) // (length - 1)
            top, left = (place, offset) if down else (offset, place)
            video[time, top : top + 8, left : left + 8] = (220, 180, 40)
        write(folder / f"{index}.mp4", video)
        entries.append({"file_name": f"{index}.mp4", "text": "move down" if down else "move right"})
    return rows(folder, *entries)


if __name__ == "__main__":
    _encode(Path(sys.argv[1]), np.load(sys.argv[2]), "libsvtav1", int(sys.argv[3]))
