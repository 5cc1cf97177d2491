"""A goal video of Meta-World's scripted expert (GOAL=expert), and rendering in a process of its own.

    python -m genreward_jax.envs.expert --task shelf_place --out goal.mp4

It renders, so it runs in a process of its own (:func:`expert_video`); the result is cached by what it depends on.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np

from genreward_jax import video
from genreward_jax.envs import metaworld, rendering
from genreward_jax.errors import UserError

AFTER_SUCCESS = 10  # steps still shown after the first success, so that the end shows the task done
HELD = 40  # the same where the end itself is wanted: the arm moves on, and what these frames share is the task done
TRIES = 5  # seeds in a row; the experts of a few tasks fail now and then
FPS = 30.0
FORMAT = 3  # part of the cache key: raise it when the same arguments come to mean other pictures


def expert_episode(
    task: str,
    seed: int,
    size: int,
    *,
    length: int = 500,
    camera: str = "corner2",
    quality: str = "auto",
    after: int = AFTER_SUCCESS,
) -> np.ndarray:
    """Frames of one successful episode of the scripted expert.

    Args:
        task: Underscore name.
        seed: First seed to try; the next ones follow where the expert fails.
        size: Height and width in pixels.
        length: Steps after which an episode counts as failed.
        after: Steps shown after the first success.

    Returns:
        uint8 (N, size, size, 3), from the reset until ``after`` steps after the first success.

    Raises:
        UserError: The expert succeeds with none of a few seeds.
    """
    task = metaworld.check_task(task)
    rendering.choose_backend()
    from metaworld.policies import ENV_POLICY_MAP

    policy_class = ENV_POLICY_MAP[task.replace("_", "-") + "-v3"]
    for attempt in range(seed, seed + TRIES):
        env = metaworld.MetaWorld(
            task, size=(size, size), length=length, camera=camera, quality=quality, seed=attempt, reward="none"
        )
        try:
            frames = _play(env, policy_class(), after)
        finally:
            env.close()
        if frames is not None:
            return frames
    raise UserError(
        f"Meta-World's scripted expert of '{task}' did not succeed within {length} steps on seeds {seed} to "
        f"{seed + TRIES - 1}; try another seed, or give a goal video with GOAL=."
    )


def _play(env: metaworld.MetaWorld, policy, after: int) -> np.ndarray | None:
    row = env.step({"reset": True, "action": np.zeros(4, np.float32)})
    frames, done_at = [row["image"]], None
    while not row["is_last"] and (done_at is None or len(frames) <= done_at + after):
        with warnings.catch_warnings():  # the experts warn that they ask for more than is allowed
            warnings.simplefilter("ignore")
            action = np.clip(policy.get_action(env.state), -1, 1).astype(np.float32)
        row = env.step({"reset": False, "action": action})
        frames.append(row["image"])
        if done_at is None and row["log/success"]:
            done_at = len(frames) - 1
    return None if done_at is None else np.stack(frames)


def expert_video(
    task: str,
    seed: int,
    size: int,
    cache_dir: str | Path,
    *,
    length: int = 500,
    camera: str = "corner2",
    quality: str = "auto",
    after: int = AFTER_SUCCESS,
    timeout: float = 600.0,
) -> Path:
    """Path of an mp4 of :func:`expert_episode`, rendered once in a process of its own and kept in ``cache_dir``.

    Raises:
        UserError: As :func:`expert_episode`, or the process did not end in ``timeout`` seconds.
    """
    settings = {
        "task": metaworld.check_task(task),
        "seed": int(seed),
        "size": int(size),
        "length": int(length),
        "camera": camera,
        "quality": rendering.resolve_quality(quality),
    }
    if after != AFTER_SUCCESS:  # only then a part of the key: what was rendered before it could be chosen stays known
        settings["after"] = int(after)
    name = f"{settings['task']}-expert"
    return render_apart("genreward_jax.envs.expert", settings, FORMAT, Path(cache_dir), name, ".mp4", timeout)


def render_apart(
    module: str, settings: dict, form: int, cache_dir: Path, name: str, ending: str, timeout: float = 600.0
) -> Path:
    """Path of a file that ``python -m module --out PATH`` writes from ``settings``, kept by what it depends on.

    OpenGL stays out of this process: two renderers in one corrupt each other's frames.

    Args:
        module: Takes each setting as a flag; ends with code 2 and a sentence where the user can mend what went wrong.
        form: Counts up when the same settings come to mean other pictures.
        name, ending: Of the file; the key stands between them.

    Raises:
        UserError: What the module said, or it did not end in ``timeout`` seconds.
    """
    from importlib.metadata import version

    known = {**settings, "metaworld": version("metaworld"), "format": form}
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_dir.expanduser().resolve() / f"{name}-{digest}{ending}"
    if path.exists():
        return path
    command = [sys.executable, "-m", module, "--out", str(path)]
    for flag, value in settings.items():
        command += [f"--{flag}", str(value)]
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))}
    what = f"Rendering {settings['task']} ({module.rpartition('.')[2].replace('_', ' ')})"
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout, start_new_session=True)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{what} took more than {timeout:g} s.") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        raise UserError(said[-1] if done.returncode == 2 else f"{what} failed: {said[-1]}")
    return path


def main(argv: list[str] | None = None) -> int:
    """Renders one video; the exit code is 2 where the user can mend what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m genreward_jax.envs.expert", description=__doc__)
    parser.add_argument("--task", required=True, help="one of Meta-World's 50 by underscore name")
    parser.add_argument("--out", required=True, help="mp4 to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=64, help="height and width in pixels")
    parser.add_argument("--length", type=int, default=500, help="steps after which an episode counts as failed")
    parser.add_argument("--camera", default="corner2")
    parser.add_argument("--quality", default="auto", choices=rendering.QUALITIES)
    parser.add_argument("--after", type=int, default=AFTER_SUCCESS, help="steps shown after the first success")
    args = vars(parser.parse_args(argv))
    out = args.pop("out")
    try:
        frames = expert_episode(args.pop("task"), args.pop("seed"), args.pop("size"), **args)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    video.write_video(out, frames, FPS, exact=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
