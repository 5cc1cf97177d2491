"""Item 3: pictures a second of the environment, by quality, size and OpenGL; and what the fast ones look like."""

import multiprocessing
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax.bench import floor
from genreward_jax.bench.figures import Figure, Item, Ratio, in_turns, quotients
from genreward_jax.bench.scale import Scale

TASK, GOAL = "shelf_place", 10.0
SIZES = {"quick": (64,), "default": (64, 480), "full": (64, 128, 256, 480)}
SECONDS = {"quick": 0.3, "default": 1.0, "full": 5.0}  # a round of one variant


class Painter:
    """An environment in a process of its own, since each OpenGL wants one.

    Args:
        backend: Value of MUJOCO_GL.
        quality: fast or full.
        size: Height and width in pixels.
    """

    def __init__(self, backend: str, quality: str, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_paint, args=(theirs, backend, quality, size), daemon=True)
        self._process.start()
        theirs.close()
        self.picture, self.bytes = self._pipe.recv()

    def ask(self, what: str, seconds: float) -> float:
        """Drawings (``draw``) or environment steps (``step``) a second, tried for so many seconds."""
        self._pipe.send((what, seconds))
        return self._pipe.recv()

    def __enter__(self) -> "Painter":
        return self

    def __exit__(self, *error: Any) -> None:
        self._pipe.close()
        self._process.join()


def _paint(pipe: Connection, backend: str, quality: str, size: int) -> None:
    os.environ["MUJOCO_GL"] = backend
    from genreward_jax.envs.metaworld import MetaWorld, Scene

    env = MetaWorld(TASK, size=(size, size), quality=quality, length=10**6)
    scene = Scene(env.simulator, "corner2", quality, (size, size))
    action = {"action": np.zeros(4, np.float32), "reset": False}
    env.step({**action, "reset": True})
    pipe.send((env.step(action)["image"], _bytes(env.simulator.model, quality, size)))

    def draw() -> None:
        scene.update()
        scene.draw(size, size)

    what_to_do = {"step": lambda: env.step(action), "draw": draw}
    while True:
        try:
            what, seconds = pipe.recv()
        except EOFError:
            scene.close()
            env.close()
            return
        begun, count = time.perf_counter(), 0
        while count < 3 or time.perf_counter() - begun < seconds:
            what_to_do[what]()
            count += 1
        pipe.send(count / (time.perf_counter() - begun))


def _bytes(model: Any, quality: str, size: int) -> int:
    """What drawing must move at least: three corners of each mesh's triangles, colour and depth of each pixel."""
    from genreward_jax.envs import lean_meshes, rendering

    few, doubled = (quality == "fast" and size <= limit for limit in (rendering.LEAN, rendering.DOUBLED))
    triangles = int((lean_meshes.lean(model) if few else model).mesh_facenum.sum())
    corner, pixel = 24, 8  # bytes: position and normal; colour and depth
    return 3 * corner * triangles + pixel * (size * (2 if doubled else 1)) ** 2


def backends(scale: Scale) -> list[str]:
    """The OpenGL that would be chosen, and with ``full`` every other one that works."""
    from genreward_jax.envs import rendering

    chosen = rendering.choose_backend()
    others = [name for name in ("osmesa", "egl") if name != chosen and not rendering.probe(name)["error"]]
    return [chosen, *(others if scale.name == "full" else [])]


def measure(scale: Scale, flags: list[str], say: Callable[[str], None], out: Path) -> Item:
    """Drawings and environment steps a second, variants in turns; a picture of full, fast and their difference."""
    item = Item(f"pictures a second of {TASK}")
    for backend in backends(scale):
        with ExitStack() as stack:
            painters = {}
            for size in SIZES[scale.name]:
                for quality in ("full", "fast"):
                    painters[size, quality] = stack.enter_context(Painter(backend, quality, size))
            for what, title in (("draw", "drawing alone"), ("step", "environment step")):
                asked = {
                    key: lambda painter=painter, what=what: painter.ask(what, SECONDS[scale.name])
                    for key, painter in painters.items()
                }
                say(f"{backend}: {title}")
                found = in_turns(asked, 1 if scale.name == "quick" else 5, say)
                for (size, quality), values in found.items():
                    item.figures.append(Figure(f"{backend} {size}x{size}, {quality}, {title}", "/s", values))
                for size in SIZES[scale.name]:
                    ratio = quotients(found[size, "fast"], found[size, "full"])
                    goal = GOAL if (size, what) == (64, "draw") else None
                    item.figures.append(Ratio(f"{backend} {size}x{size}, fast / full, {title}", "", ratio, goal=goal))
            for (size, quality), painter in painters.items():
                ceiling = 1 / floor.copying_seconds(painter.bytes)
                note = f"{painter.bytes / 1e6:.3g} MB: every mesh corner and every pixel's colour and depth, moved once"
                name = f"{backend} {size}x{size}, {quality}, ceiling of drawing"
                item.figures.append(Figure(name, "/s", [ceiling], note))
            for size in SIZES[scale.name]:
                pictures = painters[size, "full"].picture, painters[size, "fast"].picture
                difference = np.abs(pictures[0].astype(int) - pictures[1])
                name = f"{backend} {size}x{size}, mean difference of a pixel, of 255"
                item.figures.append(Figure(name, "", [float(difference.mean())], "shadows included"))
                if backend == backends(scale)[0] and size == 64:
                    _save(out / "rendering.png", *pictures, difference)
    item.notes += ["full: Meta-World's own settings; the picture: bench/rendering.png, full, fast, their difference"]
    return item


def _save(path: Path, full: np.ndarray, fast: np.ndarray, difference: np.ndarray, enlarged: int = 4) -> None:
    from PIL import Image

    shown = np.concatenate([full, fast, np.minimum(difference, 255).astype(np.uint8)], 1)
    Image.fromarray(shown.repeat(enlarged, 0).repeat(enlarged, 1)).save(path)
