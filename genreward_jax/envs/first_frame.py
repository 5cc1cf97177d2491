"""The first frame of a task's episode, from which a goal video is generated.

    python -m genreward_jax.envs.first_frame --task shelf_place --out first.png

It renders, so it runs in a process of its own (:func:`first_frame`); the result is cached by what it depends on.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from genreward_jax.envs import metaworld, rendering
from genreward_jax.envs.expert import render_apart
from genreward_jax.errors import UserError

FORMAT = 1  # part of the cache key: raise it when the same arguments come to mean another picture


def first_frame(
    task: str, seed: int, size: int, cache_dir: str | Path, *, camera: str = "corner2", quality: str = "auto"
) -> Path:
    """Path of a PNG of the task's first episode of ``seed`` right after its reset, rendered once.

    Args:
        task: Underscore name.
        seed: Of the environment; the places of object and goal depend on it.
        size: Height and width in pixels.
        cache_dir: Folder of such pictures.

    Raises:
        UserError: A wrong task or camera, or an OpenGL that does not work.
    """
    settings = {
        "task": metaworld.check_task(task),
        "seed": int(seed),
        "size": int(size),
        "camera": metaworld.check_camera(camera),
        "quality": rendering.resolve_quality(quality),
    }
    name = f"{settings['task']}-first"
    return render_apart("genreward_jax.envs.first_frame", settings, FORMAT, Path(cache_dir), name, ".png")


def draw(task: str, seed: int, size: int, *, camera: str = "corner2", quality: str = "auto") -> np.ndarray:
    """The picture itself, uint8 (size, size, 3); loads OpenGL into this process."""
    env = metaworld.MetaWorld(
        task, size=(size, size), camera=camera, quality=quality, seed=seed, length=1, reward="none"
    )
    try:
        return env.step({"reset": True, "action": np.zeros(4, np.float32)})["image"]
    finally:
        env.close()


def main(argv: list[str] | None = None) -> int:
    """Draws one picture; the exit code is 2 where the user can mend what went wrong."""
    from PIL import Image

    parser = argparse.ArgumentParser(prog="python -m genreward_jax.envs.first_frame", description=__doc__)
    parser.add_argument("--task", required=True, help="one of Meta-World's 50 by underscore name")
    parser.add_argument("--out", required=True, help="png to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=64, help="height and width in pixels")
    parser.add_argument("--camera", default="corner2")
    parser.add_argument("--quality", default="auto", choices=rendering.QUALITIES)
    args = vars(parser.parse_args(argv))
    out = Path(args.pop("out"))
    try:
        picture = draw(args.pop("task"), args.pop("seed"), args.pop("size"), **args)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        Image.fromarray(picture).save(Path(folder) / "made.png")
        os.replace(Path(folder) / "made.png", out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
