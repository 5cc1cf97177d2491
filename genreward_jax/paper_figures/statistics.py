"""What the curves show: mean and deviation over evaluation episodes, and the interquartile mean with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genreward_jax.errors import UserError
from genreward_jax.paper_figures.runs import Evaluation, Run

KEYS = ("return", "success")
REPETITIONS = 2000  # of the bootstrap
SEED = 0  # of the bootstrap, so that the same runs give the same picture


@dataclass(frozen=True)
class Curve:
    """One line of a panel.

    Attributes:
        steps: (S,) at which every seed was evaluated.
        middle: (S,) the mean, or the interquartile mean.
        low, high: (S,) of the band; NaN where there is none.
        seeds: How many.
        episodes: (S,) how many are behind each point.
    """

    steps: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: int
    episodes: np.ndarray


def common_steps(runs: Sequence[Run]) -> list[int]:
    """Steps at which every one of the runs was evaluated."""
    found = [{evaluation.step for evaluation in run.evaluations} for run in runs]
    return sorted(set.intersection(*found)) if found else []


def complete_seeds(tasks: Sequence[Sequence[Run]]) -> list[list[Run]]:
    """The runs of the seeds that every task has: a list a seed, with a run of each task."""
    by_seed = [{run.seed: run for run in runs} for runs in tasks]
    seeds = sorted(set.intersection(*map(set, by_seed))) if by_seed else []
    return [[found[seed] for found in by_seed] for seed in seeds]


def values(evaluation: Evaluation, key: str) -> np.ndarray:
    """(episodes,) returns or successes; the mean alone where a run kept no more."""
    return evaluation.returns if key == "return" else evaluation.successes


def mean_and_deviation(runs: Sequence[Run], key: str) -> Curve:
    """Mean and standard deviation over all evaluation episodes of all seeds, as the paper has over 10 episodes.

    Where a run kept only its means, there is no deviation.
    """
    steps, by_step = common_steps(runs), [{e.step: e for e in run.evaluations} for run in runs]
    middle, spread, counts = [], [], []
    for step in steps:
        evaluations = [found[step] for found in by_step]
        weights = np.concatenate([np.full(len(e.returns), e.episodes / len(e.returns)) for e in evaluations])
        pooled = np.concatenate([values(e, key) for e in evaluations])
        mean = float(np.average(pooled, weights=weights))
        middle.append(mean)
        spread.append(np.nan if any(e.is_mean for e in evaluations) else float(pooled.std()))
        counts.append(sum(e.episodes for e in evaluations))
    middle, spread = np.array(middle), np.array(spread)
    return Curve(np.array(steps), middle, middle - spread, middle + spread, len(runs), np.array(counts))


def interquartile(tasks: Sequence[Sequence[Run]], key: str) -> Curve | None:
    """Interquartile mean over seeds and tasks, with a 95 % interval of a bootstrap over seeds, a task a stratum.

    Args:
        tasks: The runs of each task; only seeds that every task has are taken. A run counts by the mean of its
            evaluation's episodes.
        key: return or success.

    Returns:
        None where no seed has all tasks, or these runs share no evaluation step. One seed has no interval.

    Raises:
        UserError: rliable is not installed.
    """
    chosen = complete_seeds(tasks)
    steps = common_steps([run for row in chosen for run in row])
    if not steps:
        return None
    table = np.array([[_means(run, steps, key) for run in row] for row in chosen])  # (seeds, tasks, S)
    middle = iqm(table)
    low, high = _interval(table) if len(chosen) > 1 else (np.full_like(middle, np.nan),) * 2
    count = np.array([sum(_episodes(run, step) for row in chosen for run in row) for step in steps])
    return Curve(np.array(steps), middle, low, high, len(chosen), count)


def iqm(table: np.ndarray) -> np.ndarray:
    """Interquartile mean over seeds and tasks of (seeds, tasks, S), (S,): rliable's, for all steps at once."""
    from scipy.stats import trim_mean

    return np.asarray(trim_mean(table.reshape(-1, table.shape[-1]), 0.25, axis=0))


def _interval(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    try:
        from rliable.library import get_interval_estimates
    except ImportError as error:
        raise UserError(
            f"The interquartile mean's interval needs rliable ({error}): pip install 'genreward-jax[figures]', or make "
            "setup in a checkout."
        ) from None
    before = np.random.get_state()  # rliable draws from NumPy's global numbers whatever random_state it is given
    np.random.seed(SEED)
    try:
        _, intervals = get_interval_estimates({"": table}, iqm, reps=REPETITIONS)
    finally:
        np.random.set_state(before)
    return intervals[""][0], intervals[""][1]


def _means(run: Run, steps: Sequence[int], key: str) -> list[float]:
    found = {evaluation.step: evaluation for evaluation in run.evaluations}
    return [float(np.mean(values(found[step], key))) for step in steps]


def _episodes(run: Run, step: int) -> int:
    return next(evaluation.episodes for evaluation in run.evaluations if evaluation.step == step)
