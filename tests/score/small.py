"""Small scored episodes for tests."""

import numpy as np

from genreward_jax.score.trajectories import Trajectory
from genreward_jax.score.values import Values

LADDERS = ("expert", "noisy1", "noisy2", "noisy3", "stop75", "stop50", "stop25", "random")


def episode(behaviour: str, seed: int, rewards=(0, 1, 2, 3, 4), success_at: int = -1, size: int = 32) -> Trajectory:
    """An episode with those rewards, success from a step on, and frames whose brightness is their number."""
    count = len(rewards)
    frames = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None] % 250, (count, size, size, 3)).copy()
    success = np.zeros(count, bool)
    if success_at >= 0:
        success[success_at:] = True
    return Trajectory(
        task="reach",
        behaviour=behaviour,
        seed=seed,
        frames=frames,
        actions=np.zeros((count, 4), np.float32),
        rewards=np.asarray(rewards, np.float32),
        success=success,
    )


def valued(every_step, paid=None, weight: float = 1.0) -> Values:
    """Values that training pays at the rows ``paid`` (all but the reset's if None)."""
    every_step = np.asarray(every_step, np.float32)
    trained = np.full(len(every_step), np.nan, np.float32)
    rows = np.arange(1, len(every_step)) if paid is None else np.asarray(paid, int)
    trained[rows] = every_step[rows]
    return Values(trained, np.nan_to_num(weight * trained).astype(np.float32), every_step)


class FakeNetworks:
    """r_FB of row t is t, and of any action at it the sum of its numbers."""

    about, goal, task = "made up", "key", None

    def aim(self, task):
        self.task = task

    def values(self, trajectory, normalised=False):
        return np.arange(trajectory.length + 1, dtype=np.float32)

    def at(self, trajectory, step):
        self.asked = trajectory, step, self.task
        return lambda actions: actions.sum(1)
