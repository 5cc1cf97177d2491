"""Playing whole episodes of a policy on the plain environment, and filming them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import embodied
import numpy as np


@dataclass
class Episode:
    """One evaluation episode.

    Attributes:
        score: Sum of the environment's own dense reward.
        score_env: Sum of the reward as the run uses it (sparse, say).
        success: 1.0 if the simulator said success at any step; NaN where it never says whether.
        success_last: The same at the last step.
        length: Agent steps.
        frames: uint8 (length + 1, H, W, 3) if it was filmed, else empty.
        actions: The action taken at each of these rows (none at the last: zeros), if it was filmed.
        rewards: The reward as the run uses it, of each row.
        successes: Whether the simulator said success at each row.
    """

    score: float = 0.0
    score_env: float = 0.0
    success: float = np.nan
    success_last: float = 0.0
    length: int = 0
    frames: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    successes: list[bool] = field(default_factory=list)
    done: bool = False


class Stopped(Exception):
    """The evaluation was told to stop before its end."""


def open_envs(make_env: Callable[[int], Any], envs: int = 1, parallel: bool = True) -> embodied.Driver:
    """Environments for :func:`play`, each in a process of its own.

    Args:
        make_env: Makes the i-th environment; called in its process.
        envs: Environments stepped together (a number the policy was compiled for already costs nothing).
        parallel: False steps the environments in this process, for tests without rendering.
    """
    return embodied.Driver([partial(make_env, index) for index in range(envs)], parallel=parallel)


def play(
    agent: Any,
    driver: embodied.Driver,
    episodes: int,
    film: int = 1,
    stop: Callable[[], bool] = lambda: False,
) -> list[Episode]:
    """Plays ``episodes`` episodes and closes the environments.

    Args:
        agent: Has ``init_policy(n)`` and ``policy(carry, obs, mode)`` of embodied's agents.
        driver: Of :func:`open_envs`. Environment i of n plays episodes i, i + n, ...
        episodes: How many.
        film: Of how many episodes, from the first, the frames are kept.
        stop: Asked after each step; True raises :class:`Stopped`.
    """
    envs = driver.length
    finished: list[Episode] = []
    running = [Episode() for _ in range(envs)]
    started = list(range(envs))  # number of the episode that each environment plays

    def on_step(tran: dict[str, np.ndarray], worker: int) -> None:
        if tran["is_first"]:
            running[worker] = Episode()
        episode = running[worker]
        episode.score += float(tran.get("log/reward_dense", tran["reward"]))
        episode.score_env += float(tran["reward"])
        episode.success_last = float(tran.get("log/success", np.nan))
        episode.success = float(np.fmax(episode.success, episode.success_last))
        episode.length += not tran["is_first"]
        picture = tran.get("image", tran.get("log/frame"))
        if started[worker] < film and picture is not None:
            episode.frames.append(picture)
            episode.actions.append(np.asarray(tran["action"], np.float32).reshape(-1))
            episode.rewards.append(float(tran["reward"]))
            episode.successes.append(episode.success_last > 0)
        if tran["is_last"]:
            if started[worker] < episodes:
                finished.append(episode)
            started[worker] += envs

    driver.on_step(on_step)
    try:
        driver.reset(agent.init_policy)
        while len(finished) < episodes:
            driver(lambda *args: agent.policy(*args, mode="eval"), steps=1)
            if stop():
                raise Stopped
    finally:
        driver.close()
    return finished


def said_success(share: float | None) -> str:
    """', success 40%', or nothing where the environment does not say."""
    return "" if share is None or np.isnan(share) else f", success {share:.0%}"


def summary(played: list[Episode]) -> dict[str, float]:
    """Means over episodes, named as they are logged."""
    mean = lambda name: float(np.mean([getattr(episode, name) for episode in played]))  # noqa: E731
    return {
        "eval/score": mean("score"),
        "eval/score_env": mean("score_env"),
        "eval/success": mean("success"),
        "eval/success_last": mean("success_last"),
        "eval/length": mean("length"),
        "eval/episodes": float(len(played)),
    }


def each(played: list[Episode]) -> dict[str, np.ndarray]:
    """Every episode's own return and success, (episodes,), named as they are logged."""
    names = ("score", "success")
    return {f"eval/each_{name}": np.array([getattr(episode, name) for episode in played]) for name in names}
