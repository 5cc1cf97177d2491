"""What one reward is worth on a set of episodes: ranking, alignment, discrimination, and what the agent receives of it.

Pure functions of arrays. Every metric says in its name which variant of the reward it judges, because numbers of the
two cannot be compared: ``as_trained`` is the rows that training would pay, weighted as in training; ``every_step`` is
the plain reward at every step. ``docs/score.md`` explains the names to users.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from genreward_jax.score import statistics as st
from genreward_jax.score.discrimination import Discrimination, discriminate
from genreward_jax.score.statistics import Figures

if TYPE_CHECKING:
    from genreward_jax.score.trajectories import Trajectory
    from genreward_jax.score.values import Values

VARIANTS = ("as_trained", "every_step")
LADDERS = {  # best first
    "noise_ladder": ("expert", "noisy1", "noisy2", "noisy3", "random"),
    "stop_ladder": ("expert", "stop75", "stop50", "stop25", "random"),
}
SHORTEST = 3  # rows of an expert's episode until success; two points are always in line


def measure(
    trajectories: "Sequence[Trajectory]",
    values: "Sequence[Values]",
    *,
    discrimination: Discrimination | None = None,
    cost: Mapping[str, float] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Figures:
    """All metrics of one reward.

    Args:
        trajectories: The scored episodes, N of them.
        values: What the reward says of each, in the same order.
        discrimination: From :func:`discriminate`'s input, if other tasks' goals were tried.
        cost: '<variant>/<name>' to number, such as 'as_trained/ms_per_env_step', 'as_trained/peak_memory_mb'.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        'ranking/as_trained/auc_expert_vs_random' and so on, each with value, low and high. A metric that the episodes
        do not allow (no expert, no success, nothing at every step) is left out; None stands for an undefined number.
    """
    if len(trajectories) != len(values) or not len(values):
        raise ValueError(f"{len(trajectories)} trajectories and {len(values)} values: there must be one for each")
    counts = st.resample([((t.task, t.seed), t.behaviour) for t in trajectories], resamples, seed)
    result: Figures = {}
    for variant in VARIANTS:
        if variant == "every_step" and not any(np.isfinite(v.every_step).any() for v in values):
            continue
        sums = sums_of(values, variant)
        noise = float_noise(trajectories, values, variant)
        result |= _named("ranking", variant, ranking(trajectories, sums, noise, counts))
        if variant == "every_step":
            result |= _named("alignment", variant, alignment(trajectories, values, counts))
        if discrimination is not None:
            result |= _named("discrimination", variant, discriminate(discrimination, variant, resamples, seed))
        result |= _named("agent", variant, received(trajectories, values, variant, noise))
    return result | {f"cost/{name}": st.figure(number) for name, number in (cost or {}).items()}


def _named(group: str, variant: str, figures: Figures) -> Figures:
    return {f"{group}/{variant}/{name}": figure for name, figure in figures.items()}


def rows_of(values: "Values", variant: str) -> np.ndarray:
    """The rows that a variant has, float64 (n,): the paid ones as weighted, or those with a value at every step."""
    if variant == "as_trained":
        return np.asarray(values.weighted, np.float64)[np.isfinite(values.as_trained)]
    return np.asarray(values.every_step, np.float64)[np.isfinite(values.every_step)]


def sums_of(values: "Sequence[Values]", variant: str) -> np.ndarray:
    """Each episode's reward sum, float64 (N,); 0 for one that is paid nothing."""
    return np.array([rows_of(each, variant).sum() for each in values])


def float_noise(trajectories: "Sequence[Trajectory]", values: "Sequence[Values]", variant: str) -> float:
    """How far rounding to float32 alone may move an episode's sum: every row by its last digit, all to one side.

    As trained, what is rounded is the sum with the environment's reward, which is what the replay keeps.
    """
    most = 0.0
    for trajectory, each in zip(trajectories, values, strict=True):
        rows = np.abs(rows_of(each, variant))
        if variant == "as_trained":
            own = np.asarray(trajectory.rewards, np.float64)[np.isfinite(each.as_trained)]
            rows = np.maximum(rows, np.abs(rows_of(each, variant) + own))
        most = max(most, st.EPSILON * float(rows.sum()))
    return most


def ranking(trajectories: "Sequence[Trajectory]", sums: np.ndarray, noise: float, counts: np.ndarray) -> Figures:
    """Does a better behaviour get a larger sum?

    Args:
        trajectories: N episodes.
        sums: (N,) of the reward.
        noise: Sums nearer to each other than this are ties.
        counts: (B, N), :func:`statistics.resample`.

    Returns:
        ``auc_expert_vs_<behaviour>`` for each behaviour that is there, ``kendall_tau_b_<ladder>`` (the mean over seeds
        of the tau-b of one seed's episodes; ``..._pooled_...`` where no seed has two rungs), and the gap between
        successful episodes and others, plain and standardised.
    """
    ranks = st.snapped(sums, noise)
    behaviours = np.array([t.behaviour for t in trajectories])
    result: Figures = {}
    expert = behaviours == "expert"
    if expert.any():
        for other in _in_order(set(behaviours) - {"expert"}):
            group = behaviours == other
            won = st.wins(ranks[expert], ranks[group])
            result[f"auc_expert_vs_{other}"] = st.figure(won.mean(), st.area(won, counts[:, expert], counts[:, group]))
    for name, ladder in LADDERS.items():
        result |= _ladder(name, ladder, trajectories, ranks, counts)
    good = np.array([bool(np.any(t.success)) for t in trajectories])
    # A run's replay and many a foreign file do not say how an episode ended.
    silent = [b for b in ("run", "given") if not good[behaviours == b].any()]
    bad = ~good & ~np.isin(behaviours, silent)
    if good.any() and bad.any():
        ones = np.ones((1, len(sums)))
        found, samples = st.gap(sums, ones * good, ones * bad), st.gap(sums, counts * good, counts * bad)
        result["success_failure_gap"] = st.figure(found[0][0], samples[0])
        result["success_failure_gap_standardised"] = st.figure(found[1][0], samples[1])
    return result


def _in_order(behaviours: set[str]) -> list[str]:
    known = ("noisy1", "noisy2", "noisy3", "stop75", "stop50", "stop25", "random")
    return [b for b in known if b in behaviours] + sorted(b for b in behaviours if b not in known)


def _ladder(name: str, ladder: tuple[str, ...], trajectories, ranks: np.ndarray, counts: np.ndarray) -> Figures:
    """Kendall's tau-b along a ladder, seed by seed, since a seed's scene moves all its sums together."""
    rungs = np.array([len(ladder) - ladder.index(t.behaviour) if t.behaviour in ladder else 0 for t in trajectories])
    seeds: dict[tuple[str, int], list[int]] = defaultdict(list)
    for index in np.flatnonzero(rungs):
        seeds[trajectories[index].task, trajectories[index].seed].append(index)
    whole = [indices for indices in seeds.values() if np.ptp(rungs[indices]) > 0]
    if whole:
        taus = np.array([st.kendall(rungs[indices], ranks[indices]) for indices in whole])
        return {f"kendall_tau_b_{name}": st.mean(taus, counts[:, [indices[0] for indices in whole]])}
    on = np.flatnonzero(rungs)
    if not len(on) or np.ptp(rungs[on]) == 0:
        return {}
    drawn = [np.repeat(on, row[on].astype(int)) for row in counts[:200]]
    samples = np.array([st.kendall(rungs[index], ranks[index]) for index in drawn])
    return {f"kendall_tau_b_pooled_{name}": st.figure(st.kendall(rungs[on], ranks[on]), samples)}


def alignment(trajectories: "Sequence[Trajectory]", values: "Sequence[Values]", counts: np.ndarray) -> Figures:
    """Does the reward grow on an expert's way to success? Never to be read alone: a clock scores 1.

    Every step's reward from the first step to the first success (or the end), against the step's number, the
    environment's return so far and the environment's reward there; means over expert episodes. A constant scores 0.
    """
    rows: dict[str, list[float]] = defaultdict(list)
    used = []
    for index, (trajectory, each) in enumerate(zip(trajectories, values, strict=True)):
        if trajectory.behaviour != "expert":
            continue
        reached = np.flatnonzero(trajectory.success)
        end = reached[0] + 1 if len(reached) and reached[0] > 0 else len(trajectory.success)
        steps = np.flatnonzero(np.isfinite(each.every_step[:end]))
        steps = steps[steps > 0]  # row 0 is the reset, which no action earned
        if len(steps) < SHORTEST:
            continue
        used.append(index)
        own = np.asarray(each.every_step, np.float64)[steps]
        reward = np.asarray(trajectory.rewards, np.float64)
        rows["spearman_time"].append(st.spearman(own, steps))
        rows["pearson_time"].append(st.pearson(own, steps))
        rows["spearman_env_return"].append(st.spearman(own, reward.cumsum()[steps]))
        rows["spearman_env_reward"].append(st.spearman(own, reward[steps]))
    return {name: st.mean(np.array(column), counts[:, used]) for name, column in rows.items()}


def received(trajectories: "Sequence[Trajectory]", values: "Sequence[Values]", variant: str, noise: float) -> Figures:
    """What reaches the agent, over all episodes: mean and spread a step and an episode, zeros, repeats.

    As trained, also the environment's own and which share of the signal the reward is: ``share_by_size`` of the summed
    absolute values, ``share_by_variance_step`` and ``..._episode`` of the two variances' sum. Steps without pay count
    as 0 here, since that is what the agent gets there; ``every_step`` knows only the steps that have a value.
    """
    paid = np.concatenate([rows_of(each, variant) for each in values])
    sums = sums_of(values, variant)
    trained = variant == "as_trained"
    steps = np.concatenate([np.asarray(v.weighted, np.float64)[1:] for v in values]) if trained else paid
    result = {
        "step_mean": steps.mean() if len(steps) else 0.0,
        "step_spread": steps.std() if len(steps) else 0.0,
        "episode_mean": sums.mean(),
        "episode_spread": sums.std(),
        "float_noise": noise,
        "rows": len(paid),
        "zero_rows": int((paid == 0).sum()),
        "identical_rows": _repeated(paid),
    }
    if trained:
        env = np.concatenate([np.asarray(t.rewards, np.float64)[1:] for t in trajectories])
        returns = np.array([np.asarray(t.rewards, np.float64)[1:].sum() for t in trajectories])
        result |= {
            "env_step_mean": env.mean(),
            "env_step_spread": env.std(),
            "env_episode_mean": returns.mean(),
            "env_episode_spread": returns.std(),
            "share_by_size": _share(np.abs(steps).sum(), np.abs(env).sum()),
            "share_by_variance_step": _share(steps.var(), env.var()),
            "share_by_variance_episode": _share(sums.var(), returns.var()),
        }
    return {name: st.figure(number) for name, number in result.items()}


def _share(own: float, other: float) -> float:
    return float(own / (own + other)) if own + other > 0 else 0.0


def _repeated(rows: np.ndarray) -> int:
    """How many rows have the most frequent value; 0 where all differ."""
    if not len(rows):
        return 0
    most = int(np.unique(rows.astype(np.float32), return_counts=True)[1].max())
    return most if most > 1 else 0
