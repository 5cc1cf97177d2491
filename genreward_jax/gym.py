"""The reward for any agent: Gymnasium wrappers that add eq. 10 to the environment's reward, by training's own rules."""

import functools
import json
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import iterate

from genreward_jax.envs.gym_view import FrameSource
from genreward_jax.errors import UserError
from genreward_jax.library import GenReward
from genreward_jax.stepping import Stepper

_SHARED: dict[tuple[int, Any], list] = {}  # [GenReward, how many wrappers use it] by process and arguments


class GenRewardWrapper(gymnasium.Wrapper, RecordConstructorArgs):
    """Adds generative rewards to an environment's own.

    A step's reward is a Python float: the environment's plus, every ``interval``-th step since the reset, each
    reward's weighted value (eq. 10). ``step`` waits for it, since Gymnasium knows no late rewards. Observations,
    termination, truncation and what the environment says in ``info`` are left as they are; ``info`` gains, at every
    step and at no reset, ``reward_env`` and ``reward_gen`` (floats, their sum is the reward) and for each reward
    ``reward_<name>`` (its unweighted value, 0.0 where nothing is paid) and ``reward_<name>_paid`` (bool).

    It belongs outside of ``TimeLimit`` and of what makes the picture; ``RecordEpisodeStatistics`` inside of it counts
    the environment's own rewards, outside of it the sum. Only the sampled frames of the window under way are kept, at
    the models' size, and only these are rendered. The forward-backward reward is not available without the Dreamer
    agent, whose networks it reads.

    Args:
        env: Shows images in its observations or by ``render()`` with ``render_mode='rgb_array'``.
        goal: As of :class:`library.GenReward`, or a GenReward, which stays open when the environment is closed.
        models: As of GenReward. Wrappers with equal arguments in one process share one set of models.
        frame_from: ``'observation'``, the key of a ``Dict`` observation, ``'render'``, or a function of the observation
            that gives uint8 (H, W, 3); ``'auto'`` takes the first of these that there is.
        **settings: Further arguments of GenReward: rewards, prompt, alpha, interval, frames, baseline, ...

    Raises:
        UserError: No image, or what GenReward refuses; in ``step`` a reward that is not finite.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        goal: Any,
        models: Any = "embedded",
        *,
        frame_from: str | Callable[[Any], np.ndarray] = "auto",
        **settings: Any,
    ) -> None:
        goal, models = _recordable(goal, models, settings)
        RecordConstructorArgs.__init__(
            self, goal=goal, models=models, frame_from=frame_from, **settings, _disable_deepcopy=True
        )
        gymnasium.Wrapper.__init__(self, env)
        self._frames = FrameSource(env.observation_space, env.render_mode, frame_from)
        self.gen_reward = _borrow(goal, models, settings)
        self._stepper = Stepper(self.gen_reward, env.action_space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._stepper.begin(0, lambda: self._frames.of(observation, self.env.render))
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        look = lambda: self._frames.of(observation, self.env.render)
        self._stepper.add(0, action, reward, bool(terminated or truncated), look)
        paid = self._stepper.collect()[0]
        _refuse_taken(info, paid)
        return observation, paid["reward_env"] + paid["reward_gen"], terminated, truncated, {**info, **paid}

    def close(self) -> None:
        self.env.close()
        _give_back(self)


class GenRewardVectorWrapper(VectorWrapper, RecordConstructorArgs):
    """:class:`GenRewardWrapper` for a vector environment: the windows due in one step go to the models together.

    All three autoreset modes are understood. A step that only resets a sub-environment has no reward and adds nothing
    to its ``info`` (the masks are False there). Where sub-environments are reset in the same step, the last frame is
    taken from ``info['final_obs']``, and that step's rewards stand in ``info`` and in ``info['final_info']``.

    Args:
        env: The vector environment; all else as of :class:`GenRewardWrapper`. Frames by ``render()`` are refused where
            sub-environments are reset in the same step: they would show the next episode.
    """

    def __init__(
        self,
        env: VectorEnv,
        goal: Any,
        models: Any = "embedded",
        *,
        frame_from: str | Callable[[Any], np.ndarray] = "auto",
        **settings: Any,
    ) -> None:
        goal, models = _recordable(goal, models, settings)
        RecordConstructorArgs.__init__(
            self, goal=goal, models=models, frame_from=frame_from, **settings, _disable_deepcopy=True
        )
        VectorWrapper.__init__(self, env)
        self._mode = AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        self._frames = FrameSource(env.single_observation_space, env.render_mode, frame_from)
        if self._frames.renders and self._mode == AutoresetMode.SAME_STEP:
            raise UserError(
                "render() shows the next episode where sub-environments are reset in the same step; make the vector "
                "environment with autoreset_mode='NextStep', or wrap each sub-environment in GenRewardWrapper."
            )
        self._done = np.zeros(env.num_envs, bool)  # at the step before
        self.gen_reward = _borrow(goal, models, settings)
        self._stepper = Stepper(self.gen_reward, env.single_action_space)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        mask = (options or {}).get("reset_mask")  # the environment takes it out of the options
        begun = np.ones(self.num_envs, bool) if mask is None else np.array(mask)
        observations, infos = self.env.reset(seed=seed, options=options)
        self._begin(begun, observations)
        self._done = self._done & ~begun
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        done = np.logical_or(terminations, truncations)
        final = done if self._mode == AutoresetMode.SAME_STEP else np.zeros_like(done)
        only_reset = self._done if self._mode == AutoresetMode.NEXT_STEP else np.zeros_like(done)
        draw = functools.cache(self.env.render)  # all sub-environments at once, if any is looked at
        for i, action in enumerate(iterate(self.env.action_space, actions)):
            if not only_reset[i]:
                look = partial(self._look, i, infos["final_obs"] if final[i] else observations, draw)
                self._stepper.add(i, action, rewards[i], bool(done[i]), look)
        paid = self._stepper.collect()
        self._begin(only_reset | final, observations)
        self._done = done
        total = np.array(rewards, np.float64)
        for i, parts in paid.items():
            total[i] = parts["reward_env"] + parts["reward_gen"]
        return observations, total, terminations, truncations, self._with_parts(infos, paid, final)

    def close(self, **kwargs: Any) -> None:
        self.env.close(**kwargs)
        _give_back(self)

    def _begin(self, which: np.ndarray, observations: Any) -> None:
        draw = functools.cache(self.env.render)
        for i in np.flatnonzero(which):
            self._stepper.begin(int(i), partial(self._look, int(i), observations, draw))

    def _look(self, index: int, observations: Any, draw: Callable[[], Any]) -> np.ndarray:
        return self._frames.of(_one(observations, index), lambda: draw()[index])

    def _with_parts(self, infos: dict[str, Any], paid: dict[int, dict[str, Any]], final: np.ndarray) -> dict[str, Any]:
        """Gymnasium's own way of putting each sub-environment's info into arrays with masks."""
        infos = {key: dict(value) if isinstance(value, dict) else value for key, value in infos.items()}
        for parts in list(paid.values())[:1]:
            _refuse_taken(infos, parts)
        for i, parts in sorted(paid.items()):
            infos = self._add_info(infos, {**parts, "final_info": parts} if final[i] else parts, i)
        return infos


def _one(observations: Any, index: int) -> Any:
    """The observation of one sub-environment."""
    if isinstance(observations, dict):
        return {key: _one(value, index) for key, value in observations.items()}
    if isinstance(observations, tuple) and len(observations) and isinstance(observations[0], np.ndarray | dict | tuple):
        return tuple(_one(value, index) for value in observations)
    return observations[index]


def _refuse_taken(info: dict[str, Any], parts: dict[str, Any]) -> None:
    taken = sorted(info.keys() & parts.keys())
    if taken:
        raise UserError(
            f"The environment's info has '{taken[0]}' already; name the reward otherwise, and for two goals give one "
            "wrapper several rewards."
        )


# --- models that several wrappers share ---


def _recordable(goal: Any, models: Any, settings: dict[str, Any]) -> tuple[Any, Any]:
    """Goal and models as they can be recorded: paths as text, a bridge, which cannot be copied, inside its reward."""
    goal, models = (os.fspath(value) if isinstance(value, os.PathLike) else value for value in (goal, models))
    if isinstance(goal, GenReward):
        if models != "embedded" or settings:
            named = ", ".join(["models"] * (models != "embedded") + list(settings))
            raise UserError(f"A GenReward has its settings already; give it {named} and not the wrapper.")
    elif not isinstance(models, str):
        goal, models = GenReward(goal, models, **settings), "embedded"
        settings.clear()
    return goal, models


def _borrow(goal: Any, models: str, settings: dict[str, Any]) -> GenReward:
    """The GenReward of these arguments: the one given, one that another wrapper of this process has, or a new one."""
    if isinstance(goal, GenReward):
        return goal
    try:
        key = (os.getpid(), json.dumps([goal, models, settings], sort_keys=True))
    except TypeError:  # arrays and functions: shared with nobody
        key = (os.getpid(), object())
    if key not in _SHARED:
        _SHARED[key] = [GenReward(goal, models, **settings), 0]
    _SHARED[key][1] += 1
    return _SHARED[key][0]


def _give_back(wrapper: Any) -> None:
    """Closes a wrapper's GenReward if it was made for wrappers and this was the last of them; once a wrapper."""
    reward = None if getattr(wrapper, "_gave_back", False) else wrapper.gen_reward
    wrapper._gave_back = True
    for key, entry in list(_SHARED.items()):
        if entry[0] is reward:
            entry[1] -= 1
            if not entry[1]:
                del _SHARED[key]
                reward.close()
