"""Rank correlation of few pairs: over all of them and within groups, with p values by permutation."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from genreward_jax.score.statistics import snapped

FEWEST = 3  # pairs, for a correlation
RESAMPLES, SEED = 10_000, 0  # of the permutations
ROUNDING = 1e-12  # of a column's largest value: what differs by less is a tie


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation, over all pairs and within tasks; NaN is undefined.

    Attributes:
        pairs: Of how many, those that have both numbers.
        rho, p: Over all, and the two-sided p value of permuted pairs.
        tasks: How many have two such pairs or more.
        within, within_p: The same of ranks inside each of those tasks, permuted inside tasks.
    """

    pairs: int
    rho: float = np.nan
    p: float = np.nan
    tasks: int = 0
    within: float = np.nan
    within_p: float = np.nan


def correlate(values: np.ndarray, outcomes: np.ndarray, tasks: list[str]) -> Correlation:
    """Spearman's rank correlation of two columns, ties given their mean rank.

    Args:
        values, outcomes: float (P,); a pair where either is NaN is left out.
        tasks: P names.

    Within tasks, a rank is that inside the task less the task's mean rank. Undefined where there are fewer than three
    pairs or a column is constant.
    """
    there = np.isfinite(values) & np.isfinite(outcomes)
    values, outcomes = values[there], outcomes[there]
    groups = np.unique(np.asarray(tasks)[there], return_inverse=True)[1]
    shared = np.bincount(groups, minlength=1)[groups] > 1 if len(groups) else np.zeros(0, bool)
    pooled = _tested(*(_ranks(column, np.zeros_like(groups)) for column in (values, outcomes)), None)
    groups = groups[shared]
    within = _tested(*(_ranks(column[shared], groups) for column in (values, outcomes)), groups)
    return Correlation(len(values), *pooled, len(set(groups)), *within)


def _ranks(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Ranks inside each group less the group's mean rank, (P,) and (P,) to (P,)."""
    ranks = np.zeros(len(values))
    for group in set(groups):
        own = values[groups == group]
        ranks[groups == group] = stats.rankdata(snapped(own, ROUNDING * np.abs(own).max())) - (len(own) + 1) / 2
    return ranks


def _tested(first: np.ndarray, second: np.ndarray, groups: np.ndarray | None) -> tuple[float, float]:
    """Correlation of centred ranks and its p value, permuted inside groups or over all; NaN where undefined."""
    if len(first) < FEWEST or not first.any() or not second.any():
        return np.nan, np.nan
    size = np.sqrt((first**2).sum() * (second**2).sum())
    observed = float((first * second).sum() / size)
    if groups is not None:
        found = _shuffled(first, groups) @ second / size
        beyond = min((found >= observed - 1e-9).sum(), (found <= observed + 1e-9).sum())
        return observed, float(min(1, 2 * (beyond + 1) / (RESAMPLES + 1)))
    test = stats.permutation_test(  # all permutations where they are no more than that
        (first,),
        lambda drawn, axis: (drawn * second).sum(axis) / size,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=RESAMPLES,
        random_state=SEED,
    )
    return observed, float(test.pvalue)


def _shuffled(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Random permutations inside groups, (P,) and (P,) to (RESAMPLES, P)."""
    drawn = np.random.default_rng(SEED).random((RESAMPLES, len(values)))
    shuffled = np.empty_like(drawn)
    shuffled[:, np.argsort(groups, kind="stable")] = values[np.argsort(groups + drawn, axis=1)]
    return shuffled
