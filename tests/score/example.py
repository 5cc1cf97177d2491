"""A whole score of made-up episodes: a square that reaches its place or not, and rewards that see it well or badly."""

import numpy as np

from genreward_jax.score import metrics
from genreward_jax.score.discrimination import Discrimination
from genreward_jax.score.result import Score
from genreward_jax.score.trajectories import Trajectory
from genreward_jax.score.values import Values
from tests.score.small import LADDERS

SKILL = dict(zip(LADDERS, (1.0, 0.9, 0.75, 0.4, 0.75, 0.5, 0.25, 0.0), strict=True))


def trajectory(behaviour: str, seed: int, length: int = 64, size: int = 64) -> Trajectory:
    """A square that moves right as far as the behaviour's skill takes it, and trembles."""
    rng = np.random.default_rng([seed, LADDERS.index(behaviour)])
    way = np.minimum(np.arange(length + 1) / (0.7 * length), SKILL[behaviour]) + 0.02 * rng.normal(size=length + 1)
    frames = np.full((length + 1, size, size, 3), (200, 205, 212), np.uint8)
    for frame, place in zip(frames, way, strict=True):
        left = int(np.clip(place, 0, 1.1) * (size - 20)) + 2
        frame[size // 2 - 6 : size // 2 + 6, left : left + 12] = (200, 100, 30)
    rewards = np.clip(10 * way, 0, 10).astype(np.float32)
    rewards[0] = 0
    success = way > 0.97 if behaviour == "expert" else np.zeros(length + 1, bool)
    return Trajectory("shelf_place", behaviour, seed, frames, np.zeros((length + 1, 4), np.float32), rewards, success)


def values(trajectory: Trajectory, noise: float, weight: float = 0.01, interval: int = 16, kind: str = "") -> Values:
    """A reward that sees the way through noise; or one of the controls."""
    rng = np.random.default_rng([trajectory.seed, LADDERS.index(trajectory.behaviour), int(100 * noise)])
    rows = len(trajectory.rewards)
    steps = trajectory.rewards / 10 + noise * (rng.normal() + rng.normal(size=rows))
    steps = {
        "random": rng.uniform(size=rows),
        "constant": np.ones(rows),
        "ramp": np.arange(rows) / rows,
        "env": trajectory.rewards,
    }.get(kind, steps)
    steps = steps.astype(np.float32)
    steps[0] = np.nan
    paid = np.full(rows, np.nan, np.float32)
    paid[interval::interval] = steps[interval::interval]
    return Values(paid, np.nan_to_num(weight * paid).astype(np.float32), steps)


def example(seeds: int = 4, length: int = 64) -> Score:
    trajectories = [trajectory(behaviour, seed, length) for behaviour in LADDERS for seed in range(seeds)]
    made = {
        "video": [values(t, 0.6) for t in trajectories],
        "fb_measure": [values(t, 0.05, 0.003) for t in trajectories],
        "flat": [values(t, 0.0, 1e-10, kind="constant") for t in trajectories],
        **{name: [values(t, 0.0, 0.01, kind=name) for t in trajectories] for name in ("random", "constant", "ramp")},
        "pixels": [values(t, 0.3) for t in trajectories],
        "env": [values(t, 0.0, 1.0, 1, kind="env") for t in trajectories],
    }
    rng = np.random.default_rng(0)
    tasks = ("shelf_place", "door_open", "drawer_close")
    sums = rng.normal(10, 1, (3, 3, 4)) + 2 * np.eye(3)[..., None]
    matrices = {"video": Discrimination(tasks, tasks, 0.01 * sums, sums)}
    cost = {"as_trained/ms_per_env_step": 0.7, "as_trained/peak_memory_mb": 900.0}
    figures = {
        name: metrics.measure(trajectories, each, discrimination=matrices.get(name), cost=cost, resamples=200)
        for name, each in made.items()
    }
    return Score(
        task="shelf_place",
        goal="an expert's video of seed 7",
        command="make score TASK=shelf_place REWARDS=video,fb_measure,flat",
        commit="0123abc",
        seeds=list(range(seeds)),
        trajectories=trajectories,
        values=made,
        figures=figures,
        discrimination=matrices,
        about={"fb_measure": "trained for 2,000 updates on 24 random episodes of other seeds"},
        notes=["</script><b>not markup</b> & a note"],
        goal_frames=trajectory("expert", 7, 32).frames,
    )
