"""From scorers and episodes to everything that the report shows."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from genreward_jax.progress import clock
from genreward_jax.score import metrics
from genreward_jax.score.context import Context
from genreward_jax.score.discrimination import Discrimination
from genreward_jax.score.scorers import Scorer
from genreward_jax.score.statistics import Figures
from genreward_jax.score.trajectories import Trajectory
from genreward_jax.score.values import Values


@dataclass
class Judged:
    """What was found out of each reward, by its name.

    Attributes:
        values: Of every episode, in the episodes' order.
        figures: Of :func:`metrics.measure`.
        discrimination: Where other tasks' goals were tried.
        about: What a reward is, where its name does not say it all.
        seconds: That each reward took.
    """

    values: dict[str, list[Values]] = field(default_factory=dict)
    figures: dict[str, Figures] = field(default_factory=dict)
    discrimination: dict[str, Discrimination] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def judge(
    scorers: list[Scorer],
    trajectories: list[Trajectory],
    context: Context,
    tasks: tuple[str, ...] = (),
    say: Callable[[str], None] = print,
) -> Judged:
    """Has every scorer judge every episode.

    Args:
        scorers: Not prepared yet.
        trajectories: Of one task.
        context: What they share.
        tasks: Other tasks for whose goals the experts are judged as well.
        say: Told what takes a while and how long it took.
    """
    judged = Judged()
    for scorer in scorers:
        start = time.perf_counter()
        scorer.prepare(context)
        bar = tqdm(trajectories, unit="episode", desc=scorer.name, mininterval=1, delay=2, leave=False)
        values = [scorer.values(trajectory) for trajectory in bar]
        cost = {
            "as_trained/ms_per_env_step": float(np.median([scorer.cost(t) for t in trajectories[:3]])),
            "as_trained/peak_memory_mb": context.peak_memory() / 1e6,
        }
        found = discriminate(scorer, trajectories, values, context.task, tasks) if tasks else None
        if found is not None:
            judged.discrimination[scorer.name] = found
        judged.values[scorer.name] = values
        judged.figures[scorer.name] = metrics.measure(trajectories, values, discrimination=found, cost=cost)
        judged.seconds[scorer.name] = time.perf_counter() - start
        if scorer.about:
            judged.about[scorer.name] = scorer.about
        if judged.seconds[scorer.name] > 5:
            say(f"{scorer.name}: {len(trajectories)} episodes in {clock(judged.seconds[scorer.name])}.")
    return judged


def discriminate(
    scorer: Scorer, trajectories: list[Trajectory], values: list[Values], task: str, tasks: tuple[str, ...]
) -> Discrimination | None:
    """The task's experts judged for its own goal and for those of other tasks; None where no expert is there."""
    experts = [(t, v) for t, v in zip(trajectories, values, strict=True) if t.behaviour == "expert"]
    if not experts:
        return None
    rows = [[v for _, v in experts], *([scorer.values(t, other) for t, _ in experts] for other in tasks)]
    sums = {
        variant: np.stack([metrics.sums_of(row, variant) for row in rows])[:, None]  # (goals, 1 task, episodes)
        for variant in metrics.VARIANTS
    }
    if not any(np.isfinite(v.every_step).any() for row in rows for v in row):
        sums["every_step"] = np.full_like(sums["every_step"], np.nan)
    return Discrimination((task, *tasks), (task,), **sums)
