"""How an episode is played: by Meta-World's scripted expert, well, badly, or until it gives up, or at random."""

import warnings
from typing import Any

import numpy as np

NOISE = {"noisy1": 0.3, "noisy2": 0.7, "noisy3": 1.5}  # standard deviation of the noise added to the expert's actions
STOPS = {"stop25": 0.25, "stop50": 0.5, "stop75": 0.75}  # share of the steps to success after which it gives up
BEHAVIOURS = ("expert", *NOISE, *STOPS, "random")
_NOISY = np.array([1, 1, 1, 0.3])  # the gripper is shaken less


class Actor:
    """One behaviour in one episode; a new one for each.

    Args:
        task: Underscore name.
        behaviour: One of :data:`BEHAVIOURS`.
        seed: Of noise and random actions.
        gives_up: Steps after which a behaviour of :data:`STOPS` acts at random, see :func:`steps_until_giving_up`.

    Raises:
        KeyError: No such behaviour.
    """

    def __init__(self, task: str, behaviour: str, seed: int, gives_up: int | None = None) -> None:
        from metaworld.policies import ENV_POLICY_MAP

        if behaviour not in BEHAVIOURS:
            raise KeyError(f"there is no behaviour {behaviour!r}: {', '.join(BEHAVIOURS)}")
        self._policy = ENV_POLICY_MAP[task.replace("_", "-") + "-v3"]()
        self._behaviour, self._gives_up = behaviour, gives_up
        self._rng = np.random.default_rng([seed, 1])
        self._step = 0

    def act(self, state: np.ndarray) -> np.ndarray:
        """The next action, float32 (4,) in [-1, 1], for the simulator's state, float64 (39,)."""
        self._step += 1
        if self._behaviour == "random" or (self._gives_up is not None and self._step > self._gives_up):
            return self._rng.uniform(-1, 1, 4).astype(np.float32)
        action = self._expert(state)
        if self._behaviour in NOISE:
            action = action + self._rng.normal(0, NOISE[self._behaviour], 4) * _NOISY
        return np.clip(action, -1, 1).astype(np.float32)

    def _expert(self, state: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():  # the experts warn that they ask for more than is allowed
            warnings.simplefilter("ignore")
            return np.clip(self._policy.get_action(state), -1, 1).astype(np.float64)


def reset(sim: Any, seed: int) -> np.ndarray:
    """Starts the seed's episode, the first of an environment with that seed; gives the simulator's state."""
    sim.np_random = np.random.default_rng([seed, 0])
    return sim.reset()[0]


def steps_until_giving_up(sim: Any, task: str, behaviour: str, seed: int, length: int, repeat: int = 1) -> int | None:
    """After how many steps a behaviour gives up: its share of the steps that the expert needs on that seed.

    The expert is played to its success, undrawn; where it has none within the episode, half of that counts.

    Args:
        sim: Meta-World's own environment.
        task: Underscore name.
        behaviour: One of :data:`BEHAVIOURS`; None comes back for one that does not give up.
        seed: Of the episode.
        length: Steps of an episode.
        repeat: Simulator steps per step.
    """
    if behaviour not in STOPS:
        return None
    return round(STOPS[behaviour] * (_expert_steps(sim, task, seed, length, repeat) or length // 2))


def _expert_steps(sim: Any, task: str, seed: int, length: int, repeat: int) -> int:
    """Steps to the expert's first success, 0 if there is none."""
    expert, state = Actor(task, "expert", seed), reset(sim, seed)
    for step in range(1, length + 1):
        action = expert.act(state)
        for _ in range(repeat):
            state, _, _, _, info = sim.step(action)
            if info["success"]:
                return step
    return 0
