"""Videos as arrays: reading mp4, gif and folders of pictures, fitting them to a square, writing mp4."""

import itertools
import os
import re
import tempfile
import warnings
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from genreward_jax.errors import UserError

MOVIES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")
PICTURES = (".png", ".jpg", ".jpeg")
SMALLEST = 32  # pixels; below it a video model's 8x smaller latent has fewer than 4x4 places
LARGEST = 2**32  # bytes of raw frames that are read before the user is asked for a shorter video
DEFAULT_FPS = 8.0  # of a folder of pictures, which does not say


def read_video(path: str | Path) -> tuple[np.ndarray, float]:
    """All frames of a video file, a gif or a folder of pictures in natural order (2 before 10).

    Returns:
        Frames, uint8 (N, H, W, 3), and frames a second.

    Raises:
        UserError: Nothing there, unreadable, empty, under 32 pixels, or pictures of different sizes.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"There is no video at '{path}'; name an mp4 or gif file, or a folder of png or jpg pictures.")
    if path.is_dir():
        frames, fps = _read_folder(path), DEFAULT_FPS
    elif path.suffix.lower() == ".gif":
        frames, fps = _read_gif(path)
    elif path.suffix.lower() in MOVIES:
        frames, fps = _read_movie(path)
    else:
        raise UserError(f"'{path}' is no video that can be read; use mp4, gif, or a folder of png or jpg pictures.")
    if not frames:
        raise UserError(f"The video '{path}' holds no frames; give one with at least one picture.")
    sizes = sorted({f"{f.shape[1]}x{f.shape[0]}" for f in frames})
    if len(sizes) > 1:
        raise UserError(f"The pictures in '{path}' have different sizes ({', '.join(sizes[:4])}); give them one size.")
    if min(frames[0].shape[:2]) < SMALLEST:
        raise UserError(f"The video '{path}' is {sizes[0]} pixels; both sides must be {SMALLEST} or more.")
    return np.stack(frames), fps


def fit(frames: np.ndarray, size: int) -> np.ndarray:
    """Cuts the largest square out of the middle of each frame and resizes it.

    Args:
        frames: uint8 (N, H, W, 3).
        size: Side in pixels.

    Returns:
        uint8 (N, size, size, 3).
    """
    from PIL import Image

    side = min(frames.shape[1:3])
    top, left = (frames.shape[1] - side) // 2, (frames.shape[2] - side) // 2
    square = frames[:, top : top + side, left : left + side]
    if side == size:
        return square.copy()
    images = (Image.fromarray(np.ascontiguousarray(frame)) for frame in square)
    return np.stack([np.asarray(image.resize((size, size), Image.Resampling.LANCZOS)) for image in images])


def write_video(path: str | Path, frames: np.ndarray, fps: float, exact: bool = False) -> None:
    """Writes an mp4 (H.264) that browsers play; it appears under its name only when it is complete.

    Args:
        path: Ends in .mp4; its folder is made if it is missing.
        frames: uint8 (N, H, W, 3), N at least 1; an odd side gains one repeated row or column, as H.264 needs.
        fps: Frames a second.
        exact: Lossless, for a video that models will read and not people: few browsers play it, and ordinary mp4
            blurs the colours of neighbouring pixels, which at 64x64 is half of a small object.
    """
    import imageio_ffmpeg

    path = Path(path)
    if (
        path.suffix != ".mp4"
        or frames.ndim != 4
        or frames.shape[-1] != 3
        or frames.dtype != np.uint8
        or not len(frames)
    ):
        raise ValueError(f"cannot write {frames.dtype} {frames.shape} to {path}: uint8 (N, H, W, 3) to an .mp4 can be")
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(suffix=".mp4", prefix=f".{path.stem}-", dir=path.parent)
    os.close(handle)
    writer = None
    try:
        writer = imageio_ffmpeg.write_frames(
            part,
            (frames.shape[2], frames.shape[1]),
            fps=fps,
            codec="libx264rgb" if exact else "libx264",
            pix_fmt_out="rgb24" if exact else "yuv420p",
            macro_block_size=1,
            quality=None,
            output_params=["-crf", "0" if exact else "12", "-movflags", "+faststart", "-threads", "1"],
            ffmpeg_log_level="error",
        )
        with warnings.catch_warnings():
            # The library forks only to become the encoder at once, which JAX's warning of forks does not know.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            writer.send(None)
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
        writer.close()
        os.chmod(part, 0o644)  # mkstemp's own is for its maker's eyes only
        os.replace(part, path)
    finally:
        if writer is not None:
            writer.close()  # after an error too: the encoder would write on
        Path(part).unlink(missing_ok=True)


def natural_order(names: Iterable[Path]) -> list[Path]:
    """Paths sorted by name with numbers taken as numbers: frame2 before frame10."""
    return sorted(names, key=lambda p: natural_key(p.name))


def natural_key(text: str) -> list[int | str]:
    """What to sort text by so that numbers in it count as numbers."""
    return [int(x) if x.isdigit() else x.lower() for x in re.split(r"(\d+)", text)]


def _read_folder(path: Path) -> list[np.ndarray]:
    from PIL import Image, ImageOps

    files = natural_order(p for p in path.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith("."))
    if not files:
        raise UserError(f"The folder '{path}' holds no png or jpg pictures; put the video's frames there.")
    frames = []
    for file in files:
        try:
            with Image.open(file) as image:
                frames.append(np.asarray(ImageOps.exif_transpose(image).convert("RGB")))
        except (OSError, ValueError) as error:
            raise UserError(f"The picture '{file}' cannot be read ({error}); remove or replace it.") from error
        _check_total(path, frames)
    return frames


def _read_gif(path: Path) -> tuple[list[np.ndarray], float]:
    from PIL import Image, ImageSequence

    frames, milliseconds = [], []
    try:
        with Image.open(path) as image:
            for frame in ImageSequence.Iterator(image):
                frames.append(np.asarray(frame.convert("RGB")))
                milliseconds.append(frame.info.get("duration", 0) or 100)
                _check_total(path, frames)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"The gif '{path}' cannot be read ({error}); give another file.") from error
    return frames, 1000.0 / float(np.mean(milliseconds))


def _read_movie(path: Path) -> tuple[list[np.ndarray], float]:
    import imageio_ffmpeg

    frames: list[np.ndarray] = []
    reader = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgb24", bits_per_pixel=24)
    try:
        meta = next(reader)
        width, height = meta["size"]
        for raw in reader:
            frames.append(np.frombuffer(raw, np.uint8).reshape(height, width, 3))
            _check_total(path, frames)
    except (OSError, RuntimeError, StopIteration, KeyError, ValueError) as error:
        reason = (str(error).strip().splitlines() or ["no video stream"])[-1]
        raise UserError(f"The video '{path}' cannot be read ({reason}); is it a complete mp4?") from error
    finally:
        reader.close()
    return frames, float(meta.get("fps") or DEFAULT_FPS)


def _check_total(path: Path, frames: list[np.ndarray]) -> None:
    if len(frames) * frames[0].size > LARGEST:
        height, width = frames[0].shape[:2]
        raise UserError(
            f"The video '{path}' is too long to be held in memory ({len(frames)} frames of {width}x{height} and more); "
            "cut it to the seconds that show the task, or make it smaller."
        )


def write_frames(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Writes a lossless mp4 by PyAV: no process is started, which at thousands of small videos is most of the time.

    Args:
        path: Ends in .mp4; its folder is there.
        frames: uint8 (N, H, W, 3), or as many (H, W, 3) one after the other; even sides.
        fps: Frames a second.
    """
    import av

    frames = iter(frames)
    first = next(frames)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=Fraction(fps).limit_denominator(1001))
        stream.options = {"crf": "0", "preset": "fast"}
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "rgb24"
        for frame in itertools.chain([first], frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())


def read_frames(path: str | Path) -> np.ndarray:
    """All frames of a video file by PyAV, uint8 (N, H, W, 3); quick for many small ones, see :func:`write_frames`.

    Raises:
        UserError: Unreadable, or no frames.
    """
    import av

    try:
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"The video '{path}' cannot be read ({error}); is it a complete mp4?") from error
    if not frames:
        raise UserError(f"The video '{path}' holds no frames; give one with at least one picture.")
    return np.stack(frames)
