"""Pictures of Gymnasium environments: where a step's frame is found, and Meta-World as training sees it."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from genreward_jax.envs import rendering
from genreward_jax.envs.metaworld import Scene, check_camera
from genreward_jax.errors import UserError


class FrameSource:
    """Finds a step's picture in the observation or draws it.

    Args:
        space: The observation space of one environment.
        render_mode: The environment's.
        wanted: 'auto', 'observation', the key of a Dict observation, 'render', or a function of the observation.

    Raises:
        UserError: There is no such picture.
    """

    def __init__(
        self, space: spaces.Space, render_mode: str | None, wanted: str | Callable[[Any], np.ndarray] = "auto"
    ) -> None:
        images = _images(space)
        self.renders = False
        self._key, self._function = "", wanted if callable(wanted) else None
        if self._function or (wanted in ("auto", "observation") and is_image(space)):
            return
        if wanted == "auto" and len(images) == 1:
            self._key = images[0]
        elif wanted in images:
            self._key = wanted
        elif wanted in ("auto", "render") and render_mode == "rgb_array" and not (wanted == "auto" and images):
            self.renders = True
        elif wanted == "render":
            raise UserError(f"The environment's render_mode is {render_mode!r}; make it with render_mode='rgb_array'.")
        elif wanted == "auto" and images:
            raise UserError(
                f"The observation has several images ({', '.join(images)}); choose one by frame_from='...'."
            )
        else:
            named = "" if wanted == "auto" else f" at frame_from={wanted!r}"
            raise UserError(
                f"There is no image{named} in observations of {_words(space)}; an image is uint8 of shape (height, "
                "width, 3). Make the environment with render_mode='rgb_array', or give frame_from a function of the "
                "observation."
            )

    def of(self, observation: Any, render: Callable[[], Any]) -> np.ndarray:
        """The picture, uint8 (H, W, 3).

        Raises:
            UserError: What came is no picture.
        """
        if self.renders:
            frame = render()
        elif self._function:
            frame = self._function(observation)
        else:
            frame = observation[self._key] if self._key else observation
        frame = np.asarray(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
            raise UserError(f"The frame is {frame.dtype} of shape {frame.shape}; it must be uint8 (height, width, 3).")
        return frame


def is_image(space: spaces.Space) -> bool:
    """Whether observations are pictures: a Box of uint8, (H, W, 3)."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3 and space.shape[2] == 3


def _images(space: spaces.Space) -> list[str]:
    return [key for key, part in space.items() if is_image(part)] if isinstance(space, spaces.Dict) else []


def _words(space: spaces.Space) -> str:
    if isinstance(space, spaces.Dict):
        return "a Dict with " + ", ".join(f"{key}: {_words(part)}" for key, part in space.items())
    return f"{space.dtype} {space.shape}" if isinstance(space, spaces.Box) else repr(space)


class MetaWorldView(gymnasium.Wrapper, RecordConstructorArgs):
    """Has ``render()`` of a Meta-World environment show what training sees, so that windows and goals look alike.

    Meta-World's own pictures are upside down in its corner cameras, and on a CPU ten times as slow. Camera and quality
    are those of :class:`envs.metaworld.Scene`; physics and rewards are left as they are.

    Args:
        env: Made by ``gymnasium.make('Meta-World/MT1', env_name=...)``, with any render_mode or none.
        size: Height and width of the picture in pixels.
        camera: One of :data:`envs.metaworld.CAMERAS`.
        quality: fast, full or auto.

    Raises:
        UserError: Another environment, an unknown camera, or an OpenGL that does not work.
    """

    def __init__(
        self, env: gymnasium.Env, size: tuple[int, int] = (64, 64), camera: str = "corner2", quality: str = "auto"
    ) -> None:
        RecordConstructorArgs.__init__(self, size=size, camera=camera, quality=quality)
        gymnasium.Wrapper.__init__(self, env)
        if not hasattr(type(env.unwrapped), "_target_site_config"):
            raise UserError(f"{env.unwrapped!r} is no Meta-World environment; its own render() has to do.")
        self._size = (int(size[0]), int(size[1]))
        self._camera, self._quality = check_camera(camera), rendering.resolve_quality(quality)
        self._scene: Scene | None = None
        self.metadata = {**env.metadata, "render_modes": ["rgb_array"]}

    @property
    def render_mode(self) -> str:
        return "rgb_array"

    def render(self) -> np.ndarray:
        """The scene as it is, upright, uint8 (height, width, 3)."""
        if self._scene is None:
            self._scene = Scene(self.env.unwrapped, self._camera, self._quality, self._size)
        self._scene.update()
        return self._scene.draw(*self._size)

    def close(self) -> None:
        if self._scene is not None:
            self._scene.close()
            self._scene = None
        self.env.close()
