"""Videos on the disk as the trainers want them: a number of frames at one size, read one video at a time.

No torch here. An episode is a whole file or a span of seconds in one (LeRobot v3.0 puts many into one mp4).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax.errors import UserError

SMALLEST = 32  # pixels of a video's side: below it an 8x smaller latent has fewer than 4x4 places


class BadVideo(Exception):
    """What is wrong with one video, as the second half of a sentence that begins with its name."""


@dataclass(frozen=True)
class Episode:
    """One video with its caption.

    Attributes:
        name: What to call it in a list: its path in the data folder, with the episode's number where a file has many.
        path: The file.
        text: The caption.
        start, end: Seconds within the file; an ``end`` of None is the file's.
        count: Frames, where the data set says how many; 0 where the file has to be asked.
        index: Its number in a LeRobot data set.
        data: The parquet file with its actions and the like, where there is one.
        notes: What else the data set's list says of it.
    """

    name: str
    path: Path
    text: str
    start: float = 0.0
    end: float | None = None
    count: int = 0
    index: int = -1
    data: Path | None = None
    notes: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)


@dataclass(frozen=True)
class Look:
    """What a file says about itself: frames (0: it does not say), sides in pixels, frames a second, seconds."""

    frames: int
    height: int
    width: int
    fps: float
    seconds: float


@lru_cache(maxsize=4096)
def look(path: Path) -> Look:
    """Opens a file and decodes its first frame.

    Raises:
        BadVideo: Not there, no video, or a first frame that cannot be decoded.
    """
    import av

    _check_there(path)
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            fps = float(stream.average_rate or stream.guessed_rate or 0)
            seconds = float(container.duration or 0) / av.time_base
            frame = next(container.decode(stream))
            return Look(stream.frames, frame.height, frame.width, fps, seconds)
    except StopIteration:
        raise BadVideo("holds no frames") from None
    except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
        raise BadVideo(_why(error)) from error


def length(episode: Episode) -> int:
    """Frames of an episode: as the data set or the file says, else counted.

    Raises:
        BadVideo: Unreadable.
    """
    seen = look(episode.path)
    if episode.end is not None:
        if seen.seconds and episode.start >= seen.seconds:
            raise BadVideo(f"begins at {episode.start:.2f} s, but the file ends at {seen.seconds:.2f} s")
        return episode.count or round((episode.end - episode.start) * seen.fps)
    return seen.frames or sum(1 for _ in _frames(episode))


def places(total: int, count: int, stride: int = 0) -> np.ndarray:
    """Which frames make a clip: ``count`` spread evenly from the first to the last, as a goal video shows a whole task.

    With a ``stride`` every so many frames from the start; a video that ends before is filled with its last frame.
    """
    if stride:
        return np.minimum(np.arange(count) * stride, total - 1)
    return np.rint(np.linspace(0, total - 1, count)).astype(int)


def read(episode: Episode, wanted: np.ndarray, size: tuple[int, int], fit: str = "crop") -> np.ndarray:
    """Some frames of an episode at one size; only these are ever held.

    Args:
        episode: The video.
        wanted: Ascending places of frames; repeats are allowed.
        size: Height and width in pixels.
        fit: 'crop' or 'pad', see :func:`fitted`.

    Returns:
        uint8 (len(wanted), height, width, 3).

    Raises:
        BadVideo: Unreadable, changing its size on the way, or over before the last wanted frame.
    """
    taken: dict[int, np.ndarray] = {}
    missing, shape, seen = set(wanted.tolist()), None, 0
    for place, frame in enumerate(_frames(episode)):
        seen = place + 1
        if shape not in (None, (frame.width, frame.height)):
            raise BadVideo(f"changes its size from {shape[0]}x{shape[1]} to {frame.width}x{frame.height}")
        shape = (frame.width, frame.height)
        if place in missing:
            taken[place] = fitted(frame.to_ndarray(format="rgb24"), size, fit)
            missing.remove(place)
            if not missing:
                break
    if missing:
        raise BadVideo(f"ends after {seen} of its {max(missing) + 1} frames or more")
    return np.stack([taken[place] for place in wanted.tolist()])


def fitted(frame: np.ndarray, size: tuple[int, int], fit: str = "crop") -> np.ndarray:
    """One frame at another size with its proportions kept.

    Args:
        frame: uint8 (H, W, 3).
        size: Height and width in pixels.
        fit: 'crop' cuts off what stands over on two sides; 'pad' keeps all and repeats the edges, as ``make goal``
            does with a square first frame for a model of oblong videos.
    """
    from PIL import Image

    height, width = frame.shape[:2]
    if (height, width) == size:
        return frame
    choose = max if fit == "crop" else min
    scale = choose(size[0] / height, size[1] / width)
    inner = max(1, round(height * scale)), max(1, round(width * scale))
    array = np.asarray(Image.fromarray(frame).resize((inner[1], inner[0]), Image.Resampling.LANCZOS))
    if fit == "crop":
        top, left = (inner[0] - size[0]) // 2, (inner[1] - size[1]) // 2
        return array[top : top + size[0], left : left + size[1]]
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    sides = ((top, size[0] - inner[0] - top), (left, size[1] - inner[1] - left), (0, 0))
    return np.pad(array, sides, mode="edge")


def _frames(episode: Episode) -> Iterator:
    """Decoded frames of an episode, in order, as PyAV gives them."""
    import av

    _check_there(episode.path)
    try:
        with av.open(str(episode.path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            half = 0.5 / float(stream.average_rate or 1000)
            if episode.start > 0:  # back to the key frame before it
                container.seek(int(Fraction(episode.start) / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if episode.end is not None and frame.time is not None:
                    if frame.time < episode.start - half:
                        continue
                    # Some data sets give the last frame's own time as the end; the count keeps the next episode out.
                    if frame.time >= episode.end + half:
                        return
                yield frame
    except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
        raise BadVideo(_why(error)) from error


def inside(folder: Path, name: str) -> Path:
    """``folder / name``, which must not lead out; links are not followed, as the hub's cache is made of them.

    Raises:
        BadVideo: It leads out.
    """
    root = os.path.abspath(folder)
    path = os.path.normpath(os.path.join(root, name))
    if os.path.commonpath([root, path]) != root or path == root:
        raise BadVideo(f"{name} leads out of the data folder")
    return Path(path)


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise BadVideo("is not there")
    if not os.access(path, os.R_OK):
        raise BadVideo("may not be read by you")
    with path.open("rb") as file:
        if file.read(24).startswith(b"version https://git-lfs"):
            raise BadVideo("is a placeholder of git-lfs: `git lfs pull` in its folder gets the video")


def _why(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"cannot be read ({reason})"


def check_size(size: tuple[int, int], patch: int) -> None:
    """Refuses a size that the model cannot take.

    Raises:
        UserError: A side under 32 pixels or no multiple of ``patch``.
    """
    for name, side in zip(("height", "width"), size, strict=True):
        if side < SMALLEST or side % patch:
            nearest = max(SMALLEST, round(side / patch) * patch)
            raise UserError(f"--{name} {side} does not suit the model: take a multiple of {patch}, such as {nearest}.")
