"""The statistics behind ``make score``: areas, rank correlations, a bootstrap that keeps a seed's episodes together.

Plain NumPy and SciPy functions of arrays. Ties are ties: two sums that differ by no more than the rounding of float32
count as equal, because a reward whose order is made by rounding informs no agent.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
from scipy import stats

EPSILON = float(np.finfo(np.float32).eps)
LEVEL = 0.95  # of every interval
Figures = dict[str, dict[str, float | None]]  # a metric's name to {"value", "low", "high"}


def snapped(values: np.ndarray, noise: float) -> np.ndarray:
    """The values as ranks, (N,) to int64 (N,): from the smallest up, one that is within ``noise`` of the last shares
    its rank."""
    order = np.argsort(values, kind="stable")
    steps = np.diff(values[order]) > noise
    ranks = np.empty(len(values), np.int64)
    ranks[order] = np.concatenate([[0], np.cumsum(steps)])
    return ranks


def wins(ours: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Who is above whom: 1 where ``ours[i] > others[j]``, 0.5 where they tie, (N,) and (M,) to (N, M)."""
    return (ours[:, None] > others[None]) + 0.5 * (ours[:, None] == others[None])


def area(won: np.ndarray, ours: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area under the ROC curve from :func:`wins`, each episode taken as often as its count says.

    Args:
        won: (N, M).
        ours: (B, N) counts.
        others: (B, M) counts.

    Returns:
        (B,), NaN where one side has no episode.
    """
    pairs = ours.sum(1) * others.sum(1)
    with np.errstate(invalid="ignore"):
        return np.einsum("bn,nm,bm->b", ours, won, others) / np.where(pairs > 0, pairs, np.nan)


def kendall(rungs: np.ndarray, ranks: np.ndarray) -> float:
    """Kendall's tau-b of two rankings; 0 where either is constant."""
    if np.ptp(rungs) == 0 or np.ptp(ranks) == 0:
        return 0.0
    return float(stats.kendalltau(rungs, ranks, variant="b").statistic)


def spearman(values: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation, ties given their mean rank; 0 where either is constant to float32's rounding."""
    if _constant(values) or _constant(other):
        return 0.0
    return float(stats.spearmanr(values, other).statistic)


def pearson(values: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation; 0 where either is constant to float32's rounding."""
    if _constant(values) or _constant(other):
        return 0.0
    values, other = np.asarray(values, np.float64), np.asarray(other, np.float64)
    return float(np.clip(np.corrcoef(values, other)[0, 1], -1, 1))


def _constant(values: np.ndarray) -> bool:
    return bool(np.ptp(values) <= 4 * EPSILON * np.abs(values).max())


def gap(values: np.ndarray, good: np.ndarray, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Difference of two groups' means, plain and over the pooled standard deviation (Cohen's d).

    Args:
        values: (N,).
        good, bad: (B, N) counts: how often each value is taken into the group; 0 where it is not in it.

    Returns:
        (B,) and (B,); NaN where a group is empty, and the second where there is no spread to divide by.
    """
    count = [group.sum(1) for group in (good, bad)]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = [group @ values / n for group, n in zip((good, bad), count, strict=True)]
        squares = sum(
            (group * (values[None] - centre[:, None]) ** 2).sum(1)
            for group, centre in zip((good, bad), mean, strict=True)
        )
        plain = mean[0] - mean[1]
        spread = np.sqrt(squares / np.maximum(count[0] + count[1] - 2, 1))
        standardised = np.where(spread > 0, plain / spread, np.where(plain == 0, 0.0, np.nan))
    return plain, standardised


def resample(keys: Sequence[tuple[Hashable, str]], resamples: int, seed: int) -> np.ndarray:
    """Bootstrap samples of episodes: seeds are drawn, and with a seed all that was played from it.

    Where the behaviours start from the same seeds they are compared on the same scenes, and so are the samples. Seeds
    from which other behaviours were played (a run's own episodes; foreign data) are drawn among themselves.

    Args:
        keys: An episode's seed (with its task) and its behaviour, N of them.
        resamples: B.
        seed: Of the drawing.

    Returns:
        float64 (B, N): how often each episode is in each sample.
    """
    rng = np.random.default_rng(seed)
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, (cluster, _) in enumerate(keys):
        members[cluster].append(index)
    strata: dict[tuple[str, ...], list[Hashable]] = defaultdict(list)
    for cluster, indices in members.items():
        strata[tuple(sorted(keys[i][1] for i in indices))].append(cluster)
    counts = np.zeros((resamples, len(keys)))
    for clusters in strata.values():
        drawn = rng.integers(len(clusters), size=(resamples, len(clusters)))
        for place, cluster in enumerate(clusters):
            counts[:, members[cluster]] = (drawn == place).sum(1)[:, None]
    return counts


def figure(value: float, samples: np.ndarray | None = None) -> dict[str, float | None]:
    """A metric as ``score.json`` holds it: ``value``, and ``low`` and ``high`` of the 95 % bootstrap interval.

    What is not a finite number becomes None, as JSON has none such.
    """
    low = high = None
    if samples is not None:
        finite = samples[np.isfinite(samples)]
        if len(finite):
            low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"value": plain(value), "low": plain(low), "high": plain(high)}


def plain(value: float | None) -> float | None:
    """A Python float, or None for what is not finite."""
    return float(value) if value is not None and np.isfinite(value) else None


def mean(values: np.ndarray, counts: np.ndarray) -> dict[str, float | None]:
    """:func:`figure` of the mean of one number an episode, (N,), with counts (B, N)."""
    if not len(values):
        return figure(np.nan)
    total = counts.sum(1)
    samples = np.where(total > 0, counts @ values / np.maximum(total, 1), np.nan)
    return figure(values.mean(), samples)
