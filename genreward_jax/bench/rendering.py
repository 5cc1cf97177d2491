"""Item 3: pictures a second of the environment, by quality, size and OpenGL; and what the fast ones look like."""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax import machine
from genreward_jax.bench import floor
from genreward_jax.bench.apart import Apart
from genreward_jax.bench.figures import Figure, Item, Ratio, in_turns, quotients
from genreward_jax.bench.scale import Scale

TASK, GOAL = "shelf_place", 10.0
SIZES = {"quick": (64,), "default": (64, 480), "full": (64, 128, 256, 480)}
SECONDS = {"quick": 0.3, "default": 1.0, "full": 5.0}  # a round of one variant


class Easel:
    """An environment and a scene to draw; in a process of its own, since each OpenGL wants one.

    Args:
        backend: Value of MUJOCO_GL.
        quality: fast or full.
        size: Height and width in pixels.
    """

    def __init__(self, backend: str, quality: str, size: int) -> None:
        os.environ["MUJOCO_GL"] = backend
        from genreward_jax.envs.metaworld import MetaWorld, Scene

        self._env = MetaWorld(TASK, size=(size, size), quality=quality, length=10**6)
        self._quality, self._size = quality, size
        self._scene = Scene(self._env.simulator, "corner2", quality, (size, size))
        self._action = {"action": np.zeros(4, np.float32), "reset": False}
        self._env.step({**self._action, "reset": True})

    def picture(self) -> np.ndarray:
        """What the environment shows after a step, uint8 (size, size, 3)."""
        return self._env.step(self._action)["image"]

    def bytes(self) -> int:
        """What a drawing must move at least."""
        return _bytes(self._env.simulator.model, self._quality, self._size)

    def speed(self, what: str, seconds: float) -> float:
        """Drawings (``draw``) or environment steps (``step``) a second, tried for so many seconds."""
        act = {"step": lambda: self._env.step(self._action), "draw": self._draw}[what]
        begun, count = time.perf_counter(), 0
        while count < 3 or time.perf_counter() - begun < seconds:
            act()
            count += 1
        return count / (time.perf_counter() - begun)

    def close(self) -> None:
        self._scene.close()
        self._env.close()

    def _draw(self) -> None:
        self._scene.update()
        self._scene.draw(self._size, self._size)


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
    others = [name for name in ("osmesa", "egl") if name != chosen] if scale.name == "full" else []
    return [chosen, *(name for name in others if not rendering.probe(name)["error"])]


def draws_on_cpu(backend: str) -> bool:
    """Whether that OpenGL draws in the memory whose copying is measured, and in no GPU's."""
    return backend == "osmesa" or machine.surely_no_gpu()


def measure(scale: Scale, flags: list[str], say: Callable[[str], None], out: Path) -> Item:
    """Drawings and environment steps a second, variants in turns; a picture of full, fast and their difference."""
    item = Item(f"pictures a second of {TASK}")
    chosen, copying = backends(scale), floor.copying(**(floor.QUICK_COPY if scale.name == "quick" else {}))
    for backend in chosen:
        with ExitStack() as stack:
            painters = {}
            for size in SIZES[scale.name]:
                for quality in ("full", "fast"):
                    painters[size, quality] = stack.enter_context(Apart(Easel, backend, quality, size))
            [painter.wait() for painter in painters.values()]
            for what, title in (("draw", "drawing alone"), ("step", "environment step")):
                asked = {
                    key: lambda painter=painter, what=what: painter.call("speed", what, SECONDS[scale.name])
                    for key, painter in painters.items()
                }
                say(f"{backend}: {title}")
                found = in_turns(asked, scale.other_rounds, say)
                for (size, quality), values in found.items():
                    item.figures.append(Figure(f"{backend} {size}x{size}, {quality}, {title}", "/s", values))
                for size in SIZES[scale.name]:
                    ratio = quotients(found[size, "fast"], found[size, "full"])
                    goal = GOAL if (size, what) == (64, "draw") else None
                    item.figures.append(Ratio(f"{backend} {size}x{size}, fast / full, {title}", "", ratio, goal=goal))
            for (size, quality), painter in painters.items() if draws_on_cpu(backend) else ():
                moved = painter.call("bytes")
                note = f"{moved / 1e6:.3g} MB: every mesh corner and every pixel's colour and depth, moved once"
                name = f"{backend} {size}x{size}, {quality}, ceiling of drawing"
                item.figures.append(Figure(name, "/s", [copying / moved], note))
            for size in SIZES[scale.name]:
                full, fast = (painters[size, quality].call("picture") for quality in ("full", "fast"))
                difference = np.abs(full.astype(int) - fast)
                name = f"{backend} {size}x{size}, mean difference of a pixel, of 255"
                item.figures.append(Figure(name, "", [float(difference.mean())], "shadows included"))
                if backend == chosen[0] and size == 64:
                    _save(out / "rendering.png", full, fast, difference)
    if not all(map(draws_on_cpu, chosen)):
        item.notes.append("no ceiling where a GPU may draw: how fast its own memory is copied is not measured here")
    item.notes += ["full: Meta-World's own settings; the picture: bench/rendering.png, full, fast, their difference"]
    return item


def _save(path: Path, full: np.ndarray, fast: np.ndarray, difference: np.ndarray, enlarged: int = 4) -> None:
    from PIL import Image

    shown = np.concatenate([full, fast, np.minimum(difference, 255).astype(np.uint8)], 1)
    Image.fromarray(shown.repeat(enlarged, 0).repeat(enlarged, 1)).save(path)
