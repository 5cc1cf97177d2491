"""Who acts: chance for the first steps (algorithm 1, line 7), the agent afterwards."""

from typing import Any

import elements
import numpy as np

from genreward_jax import parts
from genreward_jax.frame_states import KEYS


class Policy:
    """Random actions for the first steps (line 7), the agent's afterwards.

    Random rows carry zeros for the latents that the agent would have stored beside its own (replay context); the
    first training pass over them puts the right ones there.
    """

    def __init__(self, agent: Any, prefill: int, step: elements.Counter, seed: int) -> None:
        self.agent, self.prefill, self.step = agent, prefill, step
        self.rng = np.random.default_rng(parts.seed_of(seed, 1))
        known = {*agent.obs_space, *agent.act_space, "consec", "stepid", *KEYS}  # the shaper adds embeddings
        self.context = {k: v for k, v in agent.spaces.items() if k not in known}

    def init(self, envs: int) -> Any:
        return self.agent.init_policy(envs)

    def __call__(self, carry: Any, obs: dict[str, np.ndarray]) -> tuple[Any, dict, dict]:
        if self.step >= self.prefill:
            return self.agent.policy(carry, obs, mode="train")
        return self.by_chance(carry, obs)

    def by_chance(self, carry: Any, obs: dict[str, np.ndarray]) -> tuple[Any, dict, dict]:
        """Uniform actions, whatever is observed."""
        count = len(obs["is_first"])
        acts = {k: self._draw(v, (count, *v.shape)) for k, v in self.agent.act_space.items()}
        return carry, acts, {k: np.zeros((count, *v.shape), v.dtype) for k, v in self.context.items()}

    def _draw(self, space: elements.Space, shape: tuple[int, ...]) -> np.ndarray:
        if space.discrete:
            return self.rng.integers(space.low, space.high, shape, space.dtype)
        return self.rng.uniform(-1, 1, shape).astype(space.dtype)
