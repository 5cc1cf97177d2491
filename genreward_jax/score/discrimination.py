"""Whether a reward tells tasks apart: experts of several tasks judged by the goals of several."""

from dataclasses import dataclass

import numpy as np

from genreward_jax.score import statistics as st
from genreward_jax.score.statistics import Figures


@dataclass(frozen=True)
class Discrimination:
    """Experts of several tasks judged by the goals of several.

    Attributes:
        goals: G tasks whose goals were used.
        tasks: T tasks whose experts were played.
        as_trained, every_step: (G, T, E), the reward's sum over each of E episodes; NaN where there is none.
    """

    goals: tuple[str, ...]
    tasks: tuple[str, ...]
    as_trained: np.ndarray
    every_step: np.ndarray


def discriminate(given: Discrimination, variant: str, resamples: int = 1000, seed: int = 0) -> Figures:
    """Does a task's expert get most from that task's own goal?

    Returns:
        ``diagonal_margin``: a task's mean sum under its own goal less the best of the other goals', mean over tasks;
        ``diagonal_margin_standardised``: the same over the spread of all entries of the matrix; ``own_goal_first``:
        share of tasks whose own goal is the best, ties shared. Nothing where no task has its own goal and another.
    """
    sums = np.asarray(getattr(given, variant), np.float64)
    if not any(task in given.goals for task in given.tasks) or len(given.goals) < 2 or not np.isfinite(sums).any():
        return {}
    rng = np.random.default_rng(seed)
    found = _margins(given, matrix_of(sums))
    picks = rng.integers(sums.shape[2], size=(resamples, sums.shape[2]))
    samples = np.array([_margins(given, matrix_of(sums[:, :, pick])) for pick in picks])
    names = ("diagonal_margin", "diagonal_margin_standardised", "own_goal_first")
    return {name: st.figure(found[i], samples[:, i]) for i, name in enumerate(names)}


def matrix_of(sums: np.ndarray) -> np.ndarray:
    """Mean over episodes, (G, T, E) to (G, T); NaN where there is none."""
    there = np.isfinite(sums)
    return np.where(there, sums, 0).sum(2) / np.where(there.any(2), there.sum(2), np.nan)


def _margins(given: Discrimination, matrix: np.ndarray) -> tuple[float, float, float]:
    margins, firsts = [], []
    for column, task in enumerate(given.tasks):
        if task not in given.goals:
            continue
        row = given.goals.index(task)
        own, others = matrix[row, column], np.delete(matrix[:, column], row)
        others = others[np.isfinite(others)]
        if not np.isfinite(own) or not len(others):
            continue
        tie = 4 * st.EPSILON * max(abs(own), np.abs(others).max())
        margins.append(own - others.max())
        firsts.append((own >= others.max() - tie) / (1 + np.sum(np.abs(others - own) <= tie)))
    if not margins:
        return np.nan, np.nan, np.nan
    margin, spread = np.mean(margins), np.nanstd(matrix)
    rounding = 4 * st.EPSILON * np.nanmax(np.abs(matrix))
    return margin, margin / spread if spread > rounding else 0.0, np.mean(firsts)
