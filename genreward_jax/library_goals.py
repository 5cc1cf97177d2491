"""The goal of the library: from a file, a folder, an array, or the name of a Meta-World task."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax.cache import cache_dir
from genreward_jax.errors import UserError
from genreward_jax.goals import Goal, load_goal, make_goal
from genreward_jax.video import DEFAULT_FPS, MOVIES, SMALLEST, read_video
from torch_bridge.client import BridgeSpec

SOURCES = ("generated", "expert")


@dataclass
class Found:
    """A goal video that is yet to be made a :class:`goals.Goal`."""

    frames: np.ndarray  # uint8 (N, H, W, 3)
    fps: float
    source: str
    prompts: tuple[str, ...]


def find(
    wanted: Any, prompt: str | Sequence[str], source: str, spec: BridgeSpec, say: Callable[[str], None]
) -> Goal | Found:
    """What a user of the library means by a goal; arguments as of :class:`library.GenReward`. Starts no bridge.

    Args:
        spec: The models for which it is; a task's goal video is made by the same family.

    Raises:
        UserError: Nothing there, no video, no such task, or no prompt for a video.
    """
    prompts = tuple(filter(None, (text.strip() for text in ([prompt] if isinstance(prompt, str) else prompt))))
    if source not in SOURCES:
        raise UserError(f"source is {source!r}; it can be {' or '.join(SOURCES)}, and a video file is the goal itself.")
    if isinstance(wanted, Goal):
        return wanted
    if not isinstance(wanted, str | os.PathLike):
        found = Found(_check_array(wanted), DEFAULT_FPS, "an array of frames", prompts)
    elif (Path(wanted).expanduser() / "goal.json").is_file():
        return load_goal(Path(wanted).expanduser())
    elif Path(wanted).expanduser().exists() or _names_a_file(wanted):
        found = Found(*read_video(wanted), str(wanted), prompts)
    else:
        found = _of_task(str(wanted), prompts, source, spec, say)
    if not found.prompts:
        raise UserError(f"The goal {found.source} needs prompt='...', a sentence that says what its video shows.")
    return found


def make(found: Found, bridge: Any, frames: int, rank: int, say: Callable[[str], None]) -> Goal:
    """The goal, made by the bridge's models or found in the cache."""
    settings = {"size": bridge.frame_size, "frames": frames, "rank": rank, "cache_dir": cache_dir("goals"), "say": say}
    return make_goal(found.frames, found.fps, found.source, found.prompts, bridge, **settings)


def _names_a_file(wanted: str | os.PathLike) -> bool:
    return not isinstance(wanted, str) or os.sep in wanted or Path(wanted).suffix.lower() in (*MOVIES, ".gif")


def _check_array(wanted: Any) -> np.ndarray:
    video = np.asarray(wanted)
    if video.dtype != np.uint8 or video.ndim != 4 or video.shape[-1] != 3 or not video.size:
        raise UserError(
            f"The goal is {video.dtype} of shape {video.shape}; give a video file, a Meta-World task, or uint8 frames "
            "of shape (frames, height, width, 3)."
        )
    if min(video.shape[1:3]) < SMALLEST:
        raise UserError(
            f"The goal's frames are {video.shape[2]}x{video.shape[1]}; both sides must be {SMALLEST} or more."
        )
    return video


def _of_task(task: str, prompts: tuple[str, ...], source: str, spec: BridgeSpec, say: Callable[[str], None]) -> Found:
    """A task's goal video, made where it has to be made, exactly as training makes it; and the sentences for CLIP."""
    from genreward_jax import config as config_lib
    from genreward_jax.envs.metaworld import check_task
    from genreward_jax.envs.rendering import resolve_quality
    from genreward_jax.generating import key_prompts
    from genreward_jax.goal_video import goal_video

    try:
        task = check_task(task)
    except UserError as error:
        raise UserError(f"'{task}' is neither a video file nor a folder of pictures, and {error}") from None
    flags = {"task": f"metaworld_{task}", "goal.source": source, "env.metaworld.quality": resolve_quality("auto")}
    flags |= {"model.family": spec.family, "model.dtype": spec.dtype, "model.revision": spec.revision}
    flags |= {"bridge.device": spec.device, "bridge.python": spec.python, "bridge.threads": spec.threads}
    if prompts:
        flags |= {"goal.key_prompts": ";".join(prompts)} | (
            {"goal.prompt": prompts[0]} if source == "generated" else {}
        )
    config = config_lib.parse(["--preset", "smoke"]).update(flags)
    video = goal_video(config, say)
    return Found(video.frames, video.fps, video.source, key_prompts(config))
