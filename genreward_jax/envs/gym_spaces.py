"""Gymnasium's spaces as the agent's: pictures as uint8 RGB, the rest as float32 vectors or classes; actions back.

No environment and no Gymnasium import here: spaces are told by their class names, so that NumPy suffices to read this.
"""

import re
from collections.abc import Callable
from typing import Any

import elements
import numpy as np

from genreward_jax.errors import UserError

SMALLEST = 16  # pixels: a uint8 array with a shorter side is a map of symbols (MiniGrid's 7x7x3), not a picture
LARGEST = 4096  # numbers in a vector: more of them are most likely a picture in a form that is not understood
NAMES = ("image", "pixels", "rgb")  # of the picture that is 'image' to the agent, where a Dict holds several

Converter = Callable[[Any], np.ndarray]


class Observations:
    """How an environment's observations become entries of a row.

    Args:
        space: ``gymnasium.spaces.Space``: a Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these.
        size: (height, width) of the agent's pictures; others are resized, whole.

    Attributes:
        spaces: ``image`` for the picture, ``image_<name>`` for further ones, ``vector`` for a single other space and
            ``obs_<name>`` for those of a Dict.
        picture_shape: (height, width) of the picture as the environment gives it, () where there is none.

    Raises:
        UserError: A space that has no such form.
    """

    def __init__(self, space: Any, size: tuple[int, int]) -> None:
        leaves = dict(_leaves(space, ()))
        main = _main_picture({path: leaf for path, leaf in leaves.items() if _is_picture(leaf)})
        self.spaces: dict[str, elements.Space] = {}
        self.picture_shape: tuple[int, ...] = ()
        self._read: dict[str, tuple[tuple[str, ...], Converter]] = {}
        for path, leaf in leaves.items():
            key, (kept, convert) = _key(path, leaf, path == main), _convert(leaf, path, size)
            if kept is None:
                continue
            if key in self.spaces:
                raise UserError(f"The observation has two parts that are both '{key}' in letters and digits: {path}.")
            self.spaces[key], self._read[key] = kept, (path, convert)
            if path == main:
                self.picture_shape = tuple(_rgb(np.zeros(leaf.shape, leaf.dtype)).shape[:2])
        if not self.spaces:
            raise UserError(f"The observation space {space} holds nothing that the agent could see.")
        self._main = main

    def __call__(self, observation: Any) -> dict[str, np.ndarray]:
        """The row's entries of one observation."""
        return {key: convert(_at(observation, path)) for key, (path, convert) in self._read.items()}

    def picture(self, observation: Any) -> np.ndarray:
        """The picture as the environment gives it, uint8 (H, W, 3)."""
        return _rgb(_at(observation, self._main))


class Actions:
    """How the agent's actions become the environment's.

    Attributes:
        space: float32 in [-1, 1] for a Box, integers for Discrete, MultiDiscrete (of equal sizes) and MultiBinary.

    Raises:
        UserError: Another space.
    """

    def __init__(self, space: Any) -> None:
        self._space, self._kind = space, type(space).__name__
        if self._kind == "Box":
            low, high = np.asarray(space.low, np.float64), np.asarray(space.high, np.float64)
            bounded = np.isfinite(low) & np.isfinite(high)  # where there is no bound, [-1, 1] is passed on as it is
            self._low, self._high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
            self.space = elements.Space(np.float32, tuple(space.shape), -1, 1)
        elif self._kind == "Discrete":
            self.space = elements.Space(np.int32, (), 0, int(space.n))
        elif self._kind == "MultiBinary":
            self.space = elements.Space(np.int32, tuple(np.atleast_1d(space.shape)), 0, 2)
        elif self._kind == "MultiDiscrete" and np.unique(space.nvec).size == 1:
            self.space = elements.Space(np.int32, tuple(space.shape), 0, int(space.nvec.flat[0]))
        else:
            raise UserError(
                f"The action space {space} is none that the agent can use; it can be a Box, Discrete, MultiBinary, or "
                f"a MultiDiscrete of equal sizes."
            )

    def __call__(self, action: np.ndarray) -> Any:
        """The environment's action; numbers beyond [-1, 1] are cut to it."""
        if self._kind == "Box":
            if not np.isfinite(action).all():
                raise ValueError(f"an action is finite numbers in [-1, 1], not {action}")
            share = (np.clip(np.asarray(action, np.float64), -1, 1) + 1) / 2
            value = self._low + share * (self._high - self._low)
            if np.issubdtype(self._space.dtype, np.integer):
                value = np.round(value)
            return value.astype(self._space.dtype)
        start = np.asarray(getattr(self._space, "start", 0))
        value = np.asarray(action, np.int64) + start
        return int(value) if self._kind == "Discrete" else value.astype(self._space.dtype)


def resize(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A whole picture, uint8 (H, W, 3), at (height, width)."""
    from PIL import Image

    if picture.shape[:2] == tuple(size):
        return np.ascontiguousarray(picture)
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.LANCZOS))


def _leaves(space: Any, path: tuple[str, ...]):
    """(path, space) of every space that is no Dict."""
    if type(space).__name__ == "Dict":
        for name, inner in space.spaces.items():
            yield from _leaves(inner, (*path, str(name)))
    else:
        yield path, space


def _at(observation: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        observation = observation[name]
    return observation


def _is_picture(space: Any) -> bool:
    """Whether a space holds an RGB or grey picture, channels last or first, in bytes or in [0, 1]."""
    if type(space).__name__ != "Box" or len(space.shape) not in (2, 3):
        return False
    bytes_ = space.dtype == np.uint8
    shares = np.issubdtype(space.dtype, np.floating) and (space.low >= 0).all() and (space.high <= 1).all()
    sides = [side for side in space.shape if side >= SMALLEST]
    channels = [side for side in space.shape if side < SMALLEST]
    if len(space.shape) == 2:
        return bool(bytes_ and len(sides) == 2)
    return bool((bytes_ or shares) and len(sides) == 2 and channels in ([1], [3]) and space.shape[1] >= SMALLEST)


def _main_picture(pictures: dict[tuple[str, ...], Any]) -> tuple[str, ...] | None:
    named = [path for name in NAMES for path in pictures if path and path[-1] == name]
    return (named or sorted(pictures) or [None])[0]


def _key(path: tuple[str, ...], space: Any, main: bool) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", "_".join(path).lower()).strip("_")
    if main:
        return "image"
    if _is_picture(space):
        return f"image_{name}"
    return f"obs_{name}" if name else "vector"


def _convert(space: Any, path: tuple[str, ...], size: tuple[int, int]) -> tuple[elements.Space | None, Converter]:
    """The agent's space for one of the environment's, and how values get there; None for one without numbers."""
    kind = type(space).__name__
    if _is_picture(space):
        return elements.Space(np.uint8, (*size, 3)), lambda value: resize(_rgb(value), size)
    if kind == "Discrete":
        start = int(space.start)
        return elements.Space(np.int32, (), 0, int(space.n)), lambda value: np.int32(value - start)
    if kind not in ("Box", "MultiDiscrete", "MultiBinary"):
        raise UserError(
            f"The observation{' ' + '.'.join(path) if path else ''} is a {kind}, which the agent cannot see; it can "
            f"be a Box, Discrete, MultiDiscrete, MultiBinary or a Dict of them (gymnasium.wrappers can change it)."
        )
    count = int(np.prod(space.shape))
    if count > LARGEST:
        raise UserError(
            f"The observation{' ' + '.'.join(path) if path else ''} of shape {tuple(space.shape)}, {space.dtype}, is "
            f"neither a picture (uint8, or floats in [0, 1], with 1 or 3 channels; no stack of frames) nor a short "
            f"vector; change it with gymnasium.wrappers."
        )
    return (elements.Space(np.float32, (count,)) if count else None), _vector


def _vector(value: Any) -> np.ndarray:
    vector = np.asarray(value, np.float32).ravel()
    if not np.isfinite(vector).all():
        raise UserError(f"The environment observed {vector[~np.isfinite(vector)][0]}, which no agent can learn from.")
    return vector


def _rgb(value: Any) -> np.ndarray:
    """A picture as uint8 (H, W, 3)."""
    picture = np.asarray(value)
    if np.issubdtype(picture.dtype, np.floating):
        picture = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    if picture.ndim == 2:
        picture = picture[..., None]
    elif picture.shape[-1] not in (1, 3):
        picture = np.moveaxis(picture, 0, -1)
    return np.repeat(picture, 3, -1) if picture.shape[-1] == 1 else picture
