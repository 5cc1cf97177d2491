"""Item 7: memory of trainer, model process and replay, and what compressing or keeping frames on disk would do."""

import io
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from genreward_jax import parts
from genreward_jax.bench.figures import Figure, Item
from genreward_jax.bench.loop import Contestant, configuration
from genreward_jax.bench.scale import Scale

ROWS, BATCHES = 1024, 20


def measure(scale: Scale, flags: list[str], say: Callable[[str], None], out: Path) -> Item:
    """Peak memory of a run's processes after its first updates; bytes of a row; codecs on the run's own frames."""
    item = Item("memory")
    with tempfile.TemporaryDirectory(prefix="genreward-bench-") as scratch:
        config = configuration(scale, "genreward", 1, Path(scratch) / "run", flags)
        contestant = Contestant(config, freeze=False)
        try:
            contestant.round(scale.paid)
            bridge = contestant.rewarding.bridge.describe()["pid"]
            trainer = psutil.Process()
            others = sum(peak(child.pid) for child in trainer.children(recursive=True) if child.pid != bridge)
            item.figures.append(Figure("trainer, peak", "MB", [peak(trainer.pid) / 1e6]))
            item.figures.append(Figure("model process, peak", "MB", [peak(bridge) / 1e6]))
            item.figures.append(Figure("environments and helpers, peak", "MB", [others / 1e6]))
            item.figures += _replay(contestant, config)
            frames = _frames(contestant, 64 if scale.name == "quick" else ROWS)
            item.figures += _codecs(frames)
            item.figures += _disk(frames, Path(scratch), config.batch_size, config.batch_length)
        finally:
            contestant.close()
    return item


def peak(pid: int) -> float:
    """Largest resident memory of a process so far, in bytes; what it has now where the system keeps no peak."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return float(psutil.Process(pid).memory_info().rss)


def _replay(contestant: Contestant, config: object) -> list[Figure]:
    replay = contestant.run.replay.replay
    chunks = [chunk for chunk in replay.chunks.values() if chunk.length]
    total = sum(value[: chunk.length].nbytes for chunk in chunks for value in chunk.data.values())
    image = sum(chunk.data["image"][: chunk.length].nbytes for chunk in chunks)
    rows = sum(chunk.length for chunk in chunks)
    said = parts.row_bytes(config, bool(parts.dino_every(config, contestant.run.rewarding.terms)))
    return [
        Figure(
            "replay, a million steps", "GB", [total / rows * 1e6 / 1e9], f"the start block says {said * 1e6 / 1e9:.3g}"
        ),
        Figure("of it images", "GB", [image / rows * 1e6 / 1e9]),
    ]


def _frames(contestant: Contestant, count: int) -> np.ndarray:
    chunks = [chunk for chunk in contestant.run.replay.replay.chunks.values() if chunk.length]
    return np.concatenate([chunk.data["image"][: chunk.length] for chunk in chunks])[:count]


def _codecs(frames: np.ndarray) -> list[Figure]:
    """Lossless codecs, frame by frame: share of the size that is left, and time both ways."""
    from PIL import Image

    def png(frame: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "png", compress_level=1)
        return file.getvalue()

    codecs = {
        "zlib, level 1": (lambda f: zlib.compress(f, 1), lambda b: np.frombuffer(zlib.decompress(b), np.uint8)),
        "png, level 1": (png, lambda b: np.asarray(Image.open(io.BytesIO(b)))),
    }
    figures = []
    for name, (pack, unpack) in codecs.items():
        begun = time.perf_counter()
        packed = [pack(np.ascontiguousarray(frame)) for frame in frames]
        middle = time.perf_counter()
        unpacked = [unpack(one) for one in packed]
        end = time.perf_counter()
        if any((a.reshape(-1) != b.reshape(-1)).any() for a, b in zip(unpacked, frames, strict=True)):
            raise RuntimeError(f"{name} did not give the frames back")
        left = sum(map(len, packed)) / frames.nbytes
        figures.append(Figure(f"{name}: share of the frames' size", "", [left]))
        figures.append(Figure(f"{name}: to pack a frame", "ms", [1e3 * (middle - begun) / len(frames)]))
        figures.append(Figure(f"{name}: to unpack a frame", "ms", [1e3 * (end - middle) / len(frames)]))
    return figures


def _disk(frames: np.ndarray, folder: Path, batch: int, length: int) -> list[Figure]:
    """Reading one batch's frames from memory and from a mapped file (which the system may still hold in memory)."""
    path = folder / "frames.npy"
    np.save(path, frames)
    mapped, rng, figures = np.load(path, mmap_mode="r"), np.random.default_rng(0), []
    length = min(length, len(frames) - 1)
    for name, source in (("memory", frames), ("a mapped file", mapped)):
        times = []
        for _ in range(BATCHES):
            starts = rng.integers(0, len(frames) - length, batch)
            begun = time.perf_counter()
            np.stack([source[start : start + length] for start in starts])
            times.append(1e3 * (time.perf_counter() - begun))
        figures.append(Figure(f"a batch's frames from {name}", "ms", times))
    return figures
