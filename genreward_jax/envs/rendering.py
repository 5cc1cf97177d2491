"""Pictures of a MuJoCo scene: which OpenGL, which quality, several sizes from one context.

MuJoCo and OpenGL are imported when they are first needed, because both read ``MUJOCO_GL`` and
``PYOPENGL_PLATFORM`` at import. There is one GL context a process, shared by all its renderers: two contexts in
one process were seen to show each other's scenes.
"""

import atexit
import copy
import functools
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax import machine
from genreward_jax.envs import lean_meshes
from genreward_jax.errors import UserError

BACKENDS = ("egl", "osmesa", "glfw")
QUALITIES = ("auto", "fast", "full")
SOFTWARE = ("llvmpipe", "softpipe", "swrast", "software")
DOUBLED = 256  # pixels: fast pictures up to this side are drawn at twice the size and averaged
LEAN = 128  # pixels: fast pictures up to this side are drawn with fewer triangles

_MENDING = {
    "osmesa": "install software OpenGL (`apt-get install libosmesa6`)",
    "egl": "install EGL (`apt-get install libegl1 libgl1-mesa-dri`, or the NVIDIA driver with its graphics part) "
    "or set MUJOCO_GL=osmesa after `apt-get install libosmesa6`",
    "glfw": "set MUJOCO_GL=osmesa after `apt-get install libosmesa6`, since a window system is seldom there",
}


def choose_backend() -> str:
    """Name of the OpenGL to use: ``MUJOCO_GL`` where it is set, else egl on a working NVIDIA GPU, else what there is
    in software: osmesa before Mesa's egl.

    The choice is written to ``MUJOCO_GL`` so that MuJoCo, PyOpenGL and child processes agree on it.

    Raises:
        UserError: ``MUJOCO_GL`` names something else.
    """
    named = os.environ.get("MUJOCO_GL", "").strip().lower()
    if named and named not in BACKENDS:
        raise UserError(f"MUJOCO_GL is '{named}'; it can be {', '.join(BACKENDS)}, or unset to have it chosen.")
    backend = named or ("egl" if _nvidia_egl_works() else machine.opengl() or "osmesa")
    os.environ["MUJOCO_GL"] = backend
    return backend


def _nvidia_egl_works() -> bool:
    """Whether an NVIDIA GPU is here and draws through EGL, tried in a process of its own."""
    if not machine.shows(machine.NVIDIA_DEVICES):
        return False
    info = probe("egl")
    return not info["error"] and not info["software"]


@functools.cache
def probe(backend: str) -> dict[str, Any]:
    """Tries an OpenGL in a process of its own, which leaves this process free to take another.

    Returns:
        ``backend``, ``renderer`` (OpenGL's own words), ``software`` (bool) and ``error`` ('' when it works).
    """
    code = "import json; from genreward_jax.envs import rendering; print(json.dumps(rendering.describe_context()))"
    env = {**os.environ, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": ""}
    env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), env.get("PYTHONPATH", "")])
    blank = {"backend": backend, "renderer": "", "software": False}
    try:
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {**blank, "error": f"OpenGL through {backend} did not answer within 60 s"}
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or [f"the process ended with code {done.returncode}"])[-1]
        return {**blank, "error": f"OpenGL through {backend} does not work: {last}"}


def describe_context() -> dict[str, Any]:
    """This process's GL context in words; makes it if it is not there. Same keys as :func:`probe`."""
    try:
        context = gl_context()
    except UserError as error:
        return {"backend": os.environ.get("MUJOCO_GL", ""), "renderer": "", "software": False, "error": str(error)}
    context.make_current()
    from OpenGL import GL

    renderer = GL.glGetString(GL.GL_RENDERER).decode()
    return {"backend": choose_backend(), "renderer": renderer, "software": is_software(renderer), "error": ""}


def is_software(renderer: str) -> bool:
    """Whether OpenGL's GL_RENDERER string names a renderer that runs on the CPU."""
    return any(name in renderer.lower() for name in SOFTWARE)


def render_info() -> dict[str, Any]:
    """What draws on this machine, for the doctor: keys as in :func:`probe`. Starts a short process."""
    return probe(choose_backend())


def resolve_quality(quality: str) -> str:
    """'fast' or 'full'; 'auto' is fast where OpenGL runs on the CPU and full where a GPU draws.

    Raises:
        UserError: Another word, or an OpenGL that does not work (where there is no GPU, who draws finds that out).
    """
    if quality not in QUALITIES:
        raise UserError(f"Rendering quality '{quality}' is unknown; it can be {', '.join(QUALITIES)}.")
    if quality != "auto":
        return quality
    backend = choose_backend()
    if backend == "osmesa" or machine.surely_no_gpu():  # software: no process needed to find out, which takes a second
        return "fast"
    info = probe(backend)
    if info["error"]:
        raise UserError(f"{info['error']}; {_MENDING[backend]}.")
    return "fast" if info["software"] else "full"


_CONTEXT: dict[int, Any] = {}  # by process number: a fork copies this dictionary, but no GL context survives it

_RENDERERS: weakref.WeakSet = weakref.WeakSet()


def gl_context() -> Any:
    """This process's one GL context, kept until it ends. Its own framebuffer is not drawn to.

    Raises:
        UserError: The OpenGL library is missing or refuses, with the command that installs it.
        RuntimeError: This process was forked from one that draws.
    """
    if _CONTEXT and os.getpid() not in _CONTEXT:
        raise RuntimeError("this process was forked from one that has drawn already; start it with 'spawn' instead")
    if not _CONTEXT:
        _CONTEXT[os.getpid()] = _make_context(choose_backend())
        atexit.register(_free_all)
    return _CONTEXT[os.getpid()]


def _free_all() -> None:
    """At the end of the process, while Python's modules are still there: freeing later prints tracebacks."""
    if os.getpid() not in _CONTEXT:
        return  # a fork: what it sees is its parent's
    for renderer in list(_RENDERERS):
        renderer.close()
    _CONTEXT.pop(os.getpid()).free()


def _make_context(backend: str) -> Any:
    try:
        if backend == "osmesa":
            from mujoco.osmesa import GLContext
        elif backend == "egl":
            from mujoco.egl import GLContext
        else:
            from mujoco.glfw import GLContext
        context = GLContext(64, 64)
        context.make_current()
    except Exception as error:  # PyOpenGL raises AttributeError, ImportError, GLError or RuntimeError here
        raise UserError(f"OpenGL through {backend} does not work here ({error}); {_MENDING[backend]}.") from error
    return context


class Renderer:
    """Draws one simulator's scene at any size up to the largest it was made for.

    Several renderers may live in one process: they share its GL context, each with its own MjrContext.

    Args:
        model: ``mujoco.MjModel``, left as it is; what is drawn with is uploaded from copies of it.
        camera: Name of one of the model's cameras.
        largest: (height, width) of the largest picture that will be asked for.
        quality: 'fast' (no shadows, no reflections) or 'full' (the model's own).

    Raises:
        UserError: Unknown camera (with those there are), or OpenGL does not work.
    """

    def __init__(self, model: Any, camera: str, largest: tuple[int, int], quality: str) -> None:
        self._gl = gl_context()  # before anything else, so that a missing library is what the user hears of
        import mujoco

        self._mujoco = mujoco
        self._model = model
        self._fast = resolve_quality(quality) == "fast"
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = camera_id(model, camera)
        self._largest = largest
        self._contexts: dict[bool, Any] = {}  # by whether it has fewer triangles; made when first drawn with
        self._scene = mujoco.MjvScene(model, maxgeom=1000)
        self._option = mujoco.MjvOption()
        self._gl.make_current()
        _RENDERERS.add(self)

    def update(self, data: Any) -> None:
        """Takes over the bodies' places from ``mujoco.MjData``; the next pictures show them."""
        mujoco, scene = self._mujoco, self._scene
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, data, self._option, None, self._camera, everything, scene)
        if self._fast:  # after each update: drawing may set them again
            scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
            scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False

    def draw(self, height: int, width: int, turned: bool = False) -> np.ndarray:
        """Picture of the scene as last updated.

        Args:
            height, width: Size in pixels, at most ``largest``.
            turned: Rotate by 180 degrees, for a camera that was mounted upside down.

        Returns:
            uint8 (height, width, 3), top row first.
        """
        few = self._fast and max(height, width) <= LEAN
        if not self._fast or max(height, width) > DOUBLED:
            pixels = self._read(height, width, few)
        else:
            # Edges as smooth as multisampling's at half its cost: on a CPU the corners of the meshes cost, not the
            # pixels (docs/performance.md).
            large = self._read(2 * height, 2 * width, few).astype(np.uint16)
            rows = large[::2] + large[1::2]
            pixels = ((rows[:, ::2] + rows[:, 1::2] + 2) // 4).astype(np.uint8)
        # OpenGL gives the bottom row first. Turned by 180 degrees, the rows are right and the columns reversed.
        return np.ascontiguousarray(pixels[:, ::-1] if turned else pixels[::-1])

    def _read(self, height: int, width: int, few: bool) -> np.ndarray:
        self._gl.make_current()
        context, rect = self._context(few), self._mujoco.MjrRect(0, 0, width, height)
        pixels = np.empty((height, width, 3), np.uint8)
        self._mujoco.mjr_setBuffer(self._mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
        self._mujoco.mjr_render(rect, self._scene, context)
        self._mujoco.mjr_readPixels(pixels, None, rect, context)
        return pixels

    def _context(self, few: bool) -> Any:
        """What was uploaded for drawing, with fewer triangles or all; each with a buffer of its own."""
        if few not in self._contexts:
            model = lean_meshes.lean(self._model) if few else copy.copy(self._model)
            doubled = 2 * (LEAN if few else DOUBLED) if self._fast else 0
            sides = (2 * LEAN, 2 * LEAN) if few else [max(side, doubled) for side in self._largest]
            model.vis.global_.offheight, model.vis.global_.offwidth = sides
            if self._fast:
                model.vis.quality.shadowsize = model.vis.quality.offsamples = 0
            self._contexts[few] = self._mujoco.MjrContext(model, self._mujoco.mjtFontScale.mjFONTSCALE_100)
        return self._contexts[few]

    def close(self) -> None:
        """Frees what is on the GPU; the process's GL context stays."""
        while self._contexts:
            self._gl.make_current()
            self._contexts.popitem()[1].free()


def camera_id(model: Any, name: str) -> int:
    """Number of a named camera.

    Raises:
        UserError: No such camera, with the names there are.
    """
    names = [model.camera(i).name for i in range(model.ncam)]
    if name not in names:
        raise UserError(f"Camera '{name}' is unknown; this task has {', '.join(names)}.")
    return names.index(name)
