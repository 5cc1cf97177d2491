"""Any Gymnasium environment in embodied's manner, with the rows that ``envs/metaworld.py`` describes.

Named by its id, or by ``module:EnvId``, which imports the module that registers it first.
"""

import json
from collections.abc import Sequence
from typing import Any

import elements
import numpy as np

from genreward_jax import windows
from genreward_jax.envs import frame_slots as slots_lib
from genreward_jax.envs import rendering
from genreward_jax.envs.gym_spaces import Actions, Observations
from genreward_jax.errors import UserError
from genreward_jax.rewards.base import Schedule
from genreward_jax.video import fit

REWARDS = ("dense", "sparse", "none")
FILM = 128  # pixels of the frames that an evaluation films of an environment without pictures


def make(name: str, kwargs: str = "", render: bool = False) -> Any:
    """Gymnasium's environment with its own time limit and without its checker.

    Args:
        name: ``EnvId`` or ``module:EnvId``.
        kwargs: More arguments of the environment, as a JSON object.
        render: Have ``render()`` give pictures.

    Raises:
        UserError: No such environment or module, wrong arguments, or something that it needs is not installed.
    """
    if render:
        rendering.choose_backend()  # before a MuJoCo environment imports MuJoCo
    import gymnasium

    try:
        more = json.loads(kwargs or "{}")
        if not isinstance(more, dict):
            raise ValueError
    except ValueError:
        raise UserError(f"--env.gym.kwargs is '{kwargs}'; it must be a JSON object, as '{{\"size\": 5}}'.") from None
    more |= {"render_mode": "rgb_array"} if render else {}
    try:
        return gymnasium.make(name, disable_env_checker=True, **more)
    except (gymnasium.error.Error, ImportError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"Gymnasium makes no environment '{name}' ({str(error).strip()}); name one that is registered, or "
            f"module:EnvId with the module that registers it (on PYTHONPATH)."
        ) from error


class GymEnv:
    """One Gymnasium environment.

    Episode number k depends on (seed, k) and on the actions in it, as far as the environment keeps to its seed.

    Args:
        name: ``EnvId`` or ``module:EnvId``.
        size: (height, width) of the agent's pictures in pixels.
        repeat: Environment steps per agent step; their rewards are summed; an end in between ends the step.
        length: Agent steps after which an episode ends (by time, not terminal); 0 leaves that to the environment.
        reward: dense (its own), sparse (its own at every ``sparse_every``-th step, 0 between) or none (0).
            ``log/reward_dense`` is always its own.
        kwargs: More arguments of the environment, as a JSON object.
        seed: Stream of episodes.
        frame_size, frame_schedules, frame_slots: As for ``MetaWorld``: which frames a reward wants, and
            where they are put. They are the middle square of the observed picture, or of ``render()``'s.
        film: Show ``log/frame`` beside observations without a picture, where the environment renders.

    Rows have ``log/success``: ``info['success']`` (or ``is_success``), NaN where the environment says nothing of it.
    """

    def __init__(
        self,
        name: str,
        *,
        size: tuple[int, int] = (64, 64),
        repeat: int = 1,
        length: int = 0,
        reward: str = "dense",
        sparse_every: int = 64,
        kwargs: str = "",
        seed: int = 0,
        frame_size: int = 0,
        frame_schedules: Sequence[Schedule] = (),
        frame_slots: str = "",
        film: bool = False,
    ) -> None:
        if reward not in REWARDS:
            raise UserError(f"Environment reward '{reward}' is unknown; it can be {', '.join(REWARDS)}.")
        self._repeat, self._length, self._seed = int(repeat), int(length), int(seed)
        self._reward, self._sparse_every = reward, int(sparse_every)
        self._env = make(name, kwargs)
        self._observations = Observations(self._env.observation_space, (int(size[0]), int(size[1])))
        self._actions = Actions(self._env.action_space)
        self._sees = bool(self._observations.picture_shape)
        self._frame_size, self._slots = int(frame_size), None
        if self._frame_size:
            self._schedules = tuple(frame_schedules)
            self._slots = slots_lib.FrameSlots.attach(frame_slots, self._frame_size)
        self._film = film and not self._sees and not why_it_shows_nothing(self._env, name, kwargs)
        if not self._sees and (self._frame_size or self._film):
            self._env.close()
            self._env = make(name, kwargs, render=True)
        self._episode, self._step, self._done = -1, 0, True
        self._seen: Any = None

    @property
    def obs_space(self) -> dict[str, elements.Space]:
        flag, number = elements.Space(bool), elements.Space(np.float32)
        spaces = {
            **self._observations.spaces,
            "reward": number,
            "is_first": flag,
            "is_last": flag,
            "is_terminal": flag,
            "reward_env": number,
            "log/reward_dense": number,
            "log/success": number,
        }
        if self._film:
            spaces["log/frame"] = elements.Space(np.uint8, (FILM, FILM, 3))
        if self._slots is not None:
            spaces["frame_slot"] = elements.Space(np.int32)
        return spaces

    @property
    def act_space(self) -> dict[str, elements.Space]:
        return {"action": self._actions.space, "reset": elements.Space(bool)}

    def step(self, action: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Plays one agent step, or starts an episode where ``reset`` is set or the last one has ended."""
        if action["reset"] or self._done:
            return self._reset()
        command = self._actions(action["action"])
        own, success, terminated, truncated = 0.0, np.nan, False, False
        for _ in range(self._repeat):
            self._seen, reward, terminated, truncated, info = self._env.step(command)
            own += float(reward)
            success = np.fmax(success, _success(info))
            if terminated or truncated:
                break
        self._step += 1
        self._done = bool(terminated or truncated or (self._length and self._step >= self._length))
        return self._row(own, success, bool(terminated))

    def close(self) -> None:
        """Closes the environment and lets go of the frame slots."""
        self._env.close()
        if self._slots is not None:
            self._slots.close()
            self._slots = None

    def _reset(self) -> dict[str, np.ndarray]:
        self._episode += 1
        self._step, self._done = 0, False
        seed = int(np.random.SeedSequence((self._seed, self._episode)).generate_state(1)[0] >> 1)
        self._seen, info = self._env.reset(seed=seed)
        return self._row(0.0, _success(info), False)

    def _row(self, own: float, success: float, terminal: bool) -> dict[str, np.ndarray]:
        paid = {"dense": True, "sparse": self._step % self._sparse_every == 0, "none": False}[self._reward]
        reward = np.float32(own if paid else 0.0)
        row = {
            **self._observations(self._seen),
            "reward": reward,
            "is_first": np.bool_(self._step == 0),
            "is_last": np.bool_(self._done),
            "is_terminal": np.bool_(terminal),
            "reward_env": reward,
            "log/reward_dense": np.float32(own),
            "log/success": np.float32(success),
        }
        if self._film:
            row["log/frame"] = fit(self._picture()[None], FILM)[0]
        if self._slots is not None:
            # Without its length: an environment's own time limit is not known, and an end may come early.
            wanted = any(windows.looks_at(schedule, self._step) for schedule in self._schedules)
            row["frame_slot"] = np.int32(self._slots.write(self._frame()) if wanted else -1)
        return row

    def _frame(self) -> np.ndarray:
        return fit(self._picture()[None], self._frame_size)[0]

    def _picture(self) -> np.ndarray:
        """What is to be seen now, uint8 (H, W, 3)."""
        return self._observations.picture(self._seen) if self._sees else rendered(self._env)


def rendered(env: Any) -> np.ndarray:
    """What an environment that was made to render shows, uint8 (H, W, 3).

    Raises:
        UserError: It gives no picture.
    """
    picture = env.render()
    if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[-1] != 3:
        raise UserError(f"The environment's render() gives {type(picture).__name__} and no picture of H x W x 3.")
    return np.ascontiguousarray(picture, np.uint8)


def why_it_shows_nothing(env: Any, name: str, kwargs: str) -> str:
    """'' if ``render()`` gives a picture, else the reason; tried on another one of the same."""
    if "rgb_array" not in (env.metadata or {}).get("render_modes", []):
        return "its observations hold no picture and it has no render mode 'rgb_array'"
    try:
        shown = make(name, kwargs, render=True)
        shown.reset(seed=0)
        rendered(shown)
        shown.close()
    except Exception as error:  # a missing pygame, say
        return f"its observations hold no picture and render() fails ({error})"
    return ""


def _success(info: dict[str, Any]) -> float:
    """1 or 0 as the environment says it, NaN where it does not."""
    said = info.get("success", info.get("is_success"))
    return np.nan if said is None else float(bool(said))
