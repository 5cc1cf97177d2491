"""Rewards for loops that want each step's at once: the shaper's rules, one step at a time."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from genreward_jax.errors import UserError
from genreward_jax.library import GenReward
from genreward_jax.shaping import RewardShaper, Row
from genreward_jax.windows import looks_at

_SLOT, _NO_SLOT = np.int32(0), np.int32(-1)


class Stepper:
    """Steps of one or several environments in, what each is paid out.

    Args:
        reward: Its terms are paid.
        action_space: Of one environment; actions are flattened for rewards that read them.
    """

    def __init__(self, reward: GenReward, action_space: spaces.Space) -> None:
        self._reward = reward
        self._space = action_space if action_space.is_np_flattenable else None
        self._looks: dict[int, Callable[[], np.ndarray]] = {}
        self._steps: dict[int, int] = {}
        self._env_rewards: dict[int, float] = {}
        self._ready: dict[int, dict[str, Any]] = {}
        self.shaper = RewardShaper(
            reward.terms,
            reward.pay,
            frame_count=reward.frames,
            frame_of=lambda worker, slot: reward.fit(self._looks[worker]()),
            tell=reward.tell,
            goal=reward.goal,
        )

    def begin(self, worker: int, look: Callable[[], np.ndarray]) -> None:
        """An episode begins; what was gathered of the one before is thrown away."""
        self._steps[worker], self._looks[worker] = 0, look
        self.shaper.push(worker, self._row(0.0, look, first=True, sampled=self._is_sampled(0)))
        self.shaper.flush()

    def add(self, worker: int, action: Any, reward: Any, ended: bool, look: Callable[[], np.ndarray]) -> None:
        """A step was made.

        Args:
            worker: Number of the environment.
            action: What it was made with.
            reward: The environment's own.
            ended: Whether the episode ended with it.
            look: Gives its picture, uint8 (H, W, 3); called only where the picture will be sampled.

        Raises:
            UserError: The environment's reward is no finite number, or the picture is none.
        """
        try:
            own = float(reward)
        except (TypeError, ValueError):
            own = math.nan
        if not math.isfinite(own):
            raise UserError(f"The environment's reward is {reward!r}; it must be a finite number.")
        self._steps[worker] += 1
        self._env_rewards[worker], self._looks[worker] = own, look
        flat = np.zeros(0) if self._space is None else spaces.flatten(self._space, action)
        self.shaper.act(worker, np.asarray(flat, np.float32))
        row = self._row(own, look, last=ended, sampled=self._is_sampled(self._steps[worker]))
        self._keep(worker, self.shaper.push(worker, row))

    def collect(self) -> dict[int, dict[str, Any]]:
        """Waits for what was asked; for each environment that made a step, what goes into its ``info``.

        Raises:
            UserError: A reward failed, or gave what is no finite number.
        """
        for worker, row in self.shaper.flush():
            self._keep(worker, [row])
        paid, self._ready = self._ready, {}
        self._looks.clear()
        return paid

    def _keep(self, worker: int, rows: list[Row]) -> None:
        for row in rows:
            self._ready[worker] = self._parts(worker, row)

    def _parts(self, worker: int, row: Row) -> dict[str, Any]:
        """Eq. 10 taken apart. The environment's reward is as it came, not rounded to the row's float32."""
        parts: dict[str, Any] = {"reward_env": self._env_rewards[worker], "reward_gen": 0.0}
        for term in self.shaper.terms:
            value = float(row[f"reward_{term.name}"])
            paid = not math.isnan(value)
            parts[f"reward_{term.name}"] = value if paid else 0.0
            parts[f"reward_{term.name}_paid"] = paid
            parts["reward_gen"] += term.weight * value if paid else 0.0
        return parts

    def _row(
        self,
        reward: float,
        look: Callable[[], np.ndarray],
        first: bool = False,
        last: bool = False,
        sampled: bool = False,
    ) -> Row:
        flags = {"is_first": np.bool_(first), "is_last": np.bool_(last)}
        row = {**flags, "reward": np.float32(reward), "frame_slot": _SLOT if sampled else _NO_SLOT}
        # The picture stays out of the row, which lives until the next one, unless a reward with a memory sees rows.
        return {**row, "image": self._reward.fit(look())} if any(self.shaper.has_memory) else row

    def _is_sampled(self, step: int) -> bool:
        """Whether some reward looks at the picture of this step of the episode."""
        return any(
            reward.wants_frames and looks_at(schedule, step)
            for reward, schedule in zip(self.shaper.rewards, self.shaper.schedules, strict=True)
        )
