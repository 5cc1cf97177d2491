"""Goal videos made by a video model: what is asked for, made once in a process of its own, kept by content.

No torch here: the model lives in that process and is gone, with its memory, before training starts.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import elements
import numpy as np

from genreward_jax.cache import cache_dir, make_once
from genreward_jax.config import read_yaml
from genreward_jax.errors import UserError
from genreward_jax.suites import split_task
from genreward_jax.video import SMALLEST, read_video, write_video

FORMAT = 1  # part of the cache key: raise it when the same request comes to mean another video
VIDEO, REQUEST = "video.mp4", "request.json"  # what a cached video's folder holds
_ROOT = str(Path(__file__).resolve().parent.parent)
# The project goes to the end of the path: another interpreter keeps its own NumPy and torch.
_START = f"import sys; sys.path.append({_ROOT!r}); from torch_bridge.generate import main; sys.exit(main())"
DONE = ("the task is done", "the goal is reached")  # for CLIP, where a task has no words
_ONLY_GENERATED = ("image", "seed", "frames", "steps", "guidance", "offload")


@dataclass
class Generated:
    """A generated video.

    Attributes:
        frames: uint8, (N, H, W, 3), as the model made it, without what its first frame was padded with.
        fps: Frames a second.
        request: What it was made of.
        folder: Where it is kept: ``video.mp4`` (lossless) and ``request.json``.
    """

    frames: np.ndarray
    fps: float
    request: dict[str, Any]
    folder: Path


def video_prompt(config: elements.Config) -> str:
    """The sentence for the video model: the flag's, or the task's own.

    Raises:
        UserError: A prompt of blanks.
    """
    if config.goal.prompt and not config.goal.prompt.strip():
        raise UserError("--goal.prompt (PROMPT=) is blank: say in a sentence what the robot does, or leave it out")
    return config.goal.prompt.strip() or _words(config)["prompt"]


def key_prompts(config: elements.Config) -> tuple[str, ...]:
    """The sentences for CLIP: those of the flag, or the prompt that a user gave, or the task's own."""
    given = tuple(filter(None, (text.strip() for text in config.goal.key_prompts.split(";"))))
    if given:
        return given
    words, prompt = _words(config), video_prompt(config)
    return tuple(words["key_frame"]) if prompt == words["prompt"] else (prompt,)


def _words(config: elements.Config) -> dict[str, Any]:
    """The task's own ``prompt`` for the video model, '' for a Gymnasium task, and ``key_frame``'s for CLIP."""
    suite, task = split_task(config.task)
    return read_yaml("tasks")[task] if suite == "metaworld" else {"prompt": "", "key_frame": DONE}


def has_no_goal(config: elements.Config) -> bool:
    """Whether the flags name no goal video and the task, a Gymnasium one, has none of its own."""
    goal = config.goal
    own = goal.source in ("generated", "expert") and not (goal.prompt and goal.image)
    return split_task(config.task)[0] == "gym" and own


def check(config: elements.Config) -> None:
    """Refuses what no model can generate, before anything is made or fetched.

    Raises:
        UserError: A blank prompt, a picture that cannot be read, an impossible number, or a flag without effect.
    """
    from torch_bridge.generation import OFFLOAD, check_frames

    goal, defaults = config.goal, read_yaml("defaults")["goal"]
    if has_no_goal(config):
        raise UserError(
            f"'{config.task}' has neither an expert nor words and a picture of its own: give a goal video (GOAL=file), "
            f"or the words and the first frame to generate one from (PROMPT='...' IMAGE=first.png), or METHOD=none."
        )
    video_prompt(config)
    if goal.source != "generated":
        idle = [name for name in _ONLY_GENERATED if goal[name] != defaults[name]]
        if idle:
            raise UserError(
                f"--goal.{idle[0]} is for a generated goal video, but the goal is '{goal.source}': leave one out"
            )
        return
    if goal.image:
        read_image(goal.image)
    if goal.frames:
        check_frames(goal.frames)
    for name in ("seed", "steps", "guidance"):
        if not 0 <= goal[name] < 2**63:
            raise UserError(f"--goal.{name} is {goal[name]:g}; it must be 0 or more.")
    if goal.offload not in OFFLOAD:
        raise UserError(f"--goal.offload is '{goal.offload}'; it can be {', '.join(OFFLOAD)}.")


def read_image(path: str) -> np.ndarray:
    """A picture file, uint8 (H, W, 3).

    Raises:
        UserError: Not there, no picture, or under 32 pixels.
    """
    from PIL import Image, ImageOps

    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"There is no picture at '{path}' (--goal.image, IMAGE=); name a png or jpg file.")
    try:
        with Image.open(file) as image:
            pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:  # Pillow's word for a broken png is SyntaxError
        raise UserError(f"The picture '{path}' cannot be read ({error}); give a png or jpg file.") from error
    if min(pixels.shape[:2]) < SMALLEST:
        size = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise UserError(f"The picture '{path}' is {size} pixels; both sides must be {SMALLEST} or more.")
    return pixels


def generate(
    config: elements.Config, say: Callable[[str], None] = print, kept: str | os.PathLike | None = None
) -> Generated:
    """The goal video that the flags ask for, made if the same was not made before.

    Args:
        config: Its task, goal, model and bridge flags are read, and the environment's camera and quality.
        say: Told what takes a while.
        kept: A folder that may hold the video beside the cache (a run's own, when it goes on).

    Raises:
        UserError: As :func:`check`; a model that is not there or makes no videos; what the model's process said.
    """
    from torch_bridge.families import resolve
    from torch_bridge.generation import making, model_digest

    check(config)
    goal = config.goal
    family = resolve(config.model.family, config.model.revision, say, generates=True)
    made = making(family, goal.frames, goal.steps, goal.guidance, config.model.dtype)
    image, box = fitted(first_image(config, min(made.width, made.height)), made.width, made.height)
    request = {
        "prompt": video_prompt(config),
        "model": family.name,
        "model_digest": model_digest(family),
        "seed": int(goal.seed),
        **asdict(made),
        "box": list(box),
        "image_digest": hashlib.sha256(image.tobytes()).hexdigest()[:24],
    }
    digest = _digest(request)
    request["digest"] = digest
    folder = _kept(kept, digest)
    if folder is None:
        how = {"family": str(config.model.family), "revision": config.model.revision, "offload": goal.offload}
        how |= {"device": config.bridge.device, "python": config.bridge.python}

        def fill(folder: Path) -> None:
            say(
                f"Generating the goal video with {family.name}: {made.frames} frames of {made.width}x{made.height} in "
                f"{made.steps} steps ..."
            )
            _make(folder, request, how, image)

        folder = make_once(cache_dir("generated", digest), fill)
    frames, _ = read_video(folder / VIDEO)
    return Generated(frames, made.fps, request, folder)


def first_image(config: elements.Config, size: int) -> np.ndarray:
    """The picture that the video starts from: the flag's, or the task's own at ``size`` pixels."""
    from PIL import Image

    from genreward_jax.envs.first_frame import first_frame

    if config.goal.image:
        return read_image(config.goal.image)
    view = config.env.metaworld
    _, task = split_task(config.task)
    seed, folder = int(config.goal.seed), cache_dir("first_frames")
    path = first_frame(task, seed, size, folder, camera=view.camera, quality=view.quality)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def fitted(image: np.ndarray, width: int, height: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A picture at the size at which a model makes videos, and where in it the picture is.

    Readers of a goal video see its middle square, so a picture is cut to the square where the model makes squares. A
    model of wider videos sees of a wider picture as much as it can, and a narrower one is padded at the sides. The
    border is repeated there, not black: a hard edge would stand where the video is cut afterwards, and the
    autoencoder smears edges over their neighbourhood (the eight columns beside it lost 0.8 dB, in a small one).

    Args:
        image: uint8 (H, W, 3).
        width, height: The model's.

    Returns:
        uint8 (height, width, 3), and (top, left, height, width) of the picture in it, even numbers of pixels.
    """
    from PIL import Image

    wanted, shape = width / height, image.shape[1] / image.shape[0]
    shape = min(max(shape, min(1.0, wanted)), max(1.0, wanted))  # what is kept lies between a square and the model's
    rows, columns = image.shape[:2]
    kept = (rows, round(rows * shape)) if columns / rows > shape else (round(columns / shape), columns)
    top, left = (rows - kept[0]) // 2, (columns - kept[1]) // 2
    picture = Image.fromarray(np.ascontiguousarray(image[top : top + kept[0], left : left + kept[1]]))
    inner_width = min(width, 2 * round(height * shape / 2))
    inner_height = min(height, 2 * round(width / shape / 2))
    picture = np.asarray(picture.resize((inner_width, inner_height), Image.Resampling.LANCZOS))
    above, beside = height - inner_height, width - inner_width
    box = (above // 2, beside // 2, inner_height, inner_width)
    around = ((box[0], above - box[0]), (box[1], beside - box[1]), (0, 0))
    return np.pad(picture, around, mode="edge"), box


def _digest(request: dict[str, Any]) -> str:
    content = {name: value for name, value in request.items() if name != "model"}  # the same one by another name
    return hashlib.sha256(json.dumps([FORMAT, content], sort_keys=True).encode()).hexdigest()[:24]


def _kept(folder: str | os.PathLike | None, digest: str) -> Path | None:
    """The folder, if it holds the video of that request."""
    if folder is None or not (Path(folder) / VIDEO).is_file():
        return None
    try:
        return Path(folder) if json.loads((Path(folder) / REQUEST).read_text())["digest"] == digest else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _make(folder: Path, request: dict[str, Any], how: dict[str, str], image: np.ndarray) -> None:
    """Runs the model's process and leaves video, first frame and request in ``folder``."""
    from PIL import Image

    Image.fromarray(image).save(folder / "first_frame.png")
    asked = {**request, **how, "image": "first_frame.png"}
    (folder / REQUEST).write_text(json.dumps(asked))
    python = how["python"] or sys.executable
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1"}
    try:
        # Its progress bar and what it says in trouble go straight to the user.
        command = [python, "-c", _START, str(folder), str(os.getpid())]
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    except OSError as error:
        raise UserError(f"the video model could not be started with {python!r}: {error}") from error
    if (folder / "error.txt").is_file():
        raise UserError((folder / "error.txt").read_text())
    if done.returncode == -9:
        raise UserError(f"the video model {request['model']} was killed, most likely for memory: take a smaller one")
    if done.returncode:
        how = f"exit code {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise UserError(
            f"the video model {request['model']} failed ({how}; what it said stands above): "
            f"give a video with GOAL=file, or another MODEL="
        )
    top, left, height, width = request["box"]
    frames = np.load(folder / "frames.npy", allow_pickle=False)
    frames = frames[:, top : top + height, left : left + width]
    write_video(folder / VIDEO, frames, request["fps"], exact=True)
    (folder / "frames.npy").unlink()
    (folder / REQUEST).write_text(json.dumps(request, indent=2, ensure_ascii=False) + "\n")
