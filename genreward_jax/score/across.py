"""Several tasks' scores in one table: what a reward is worth, and how much that depends on the task."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax.errors import UserError
from genreward_jax.rundir import write_text

TITLES = {
    "every_step": "every_step: the plain reward at every step at which it has a value",
    "as_trained": "as_trained: the rows that training would pay, weighted as in training",
}
METRICS = {  # heading to metric, by variant
    "every_step": {
        "expert > random": "ranking/every_step/auc_expert_vs_random",
        "> stop25": "ranking/every_step/auc_expert_vs_stop25",
        "> stop75": "ranking/every_step/auc_expert_vs_stop75",
        "order in time": "alignment/every_step/spearman_time",
        "noise ladder": "ranking/every_step/kendall_tau_b_noise_ladder",
        "stop ladder": "ranking/every_step/kendall_tau_b_stop_ladder",
        "own goal first": "discrimination/every_step/own_goal_first",
        "own goal's margin": "discrimination/every_step/diagonal_margin_standardised",
    },
    "as_trained": {
        "expert > random": "ranking/as_trained/auc_expert_vs_random",
        "> stop25": "ranking/as_trained/auc_expert_vs_stop25",
        "> stop75": "ranking/as_trained/auc_expert_vs_stop75",
        "noise ladder": "ranking/as_trained/kendall_tau_b_noise_ladder",
        "stop ladder": "ranking/as_trained/kendall_tau_b_stop_ladder",
        "share of the signal": "agent/as_trained/share_by_size",
        "own goal first": "discrimination/as_trained/own_goal_first",
        "own goal's margin": "discrimination/as_trained/diagonal_margin_standardised",
    },
}


@dataclass(frozen=True)
class Across:
    """Scores of several tasks.

    Attributes:
        tasks: Underscore names, T of them.
        goals: Where their goals came from, each sentence once.
        commits: Of the code, each once.
        seeds: How many each task has.
        controls: Names of the rewards that are controls.
        values: (reward, metric) to float64 (T,), NaN where a task has none.
        confusion: Reward to float64 (T, T): the mean sum at every step of column's experts under row's goal, NaN where
            it was not asked.
        intervals: (reward, metric, task) to value, low and high of every metric that the scores hold.
    """

    tasks: tuple[str, ...]
    goals: tuple[str, ...]
    commits: tuple[str, ...]
    seeds: tuple[int, ...]
    controls: tuple[str, ...]
    values: Mapping[tuple[str, str], np.ndarray]
    confusion: Mapping[str, np.ndarray] = field(default_factory=dict)
    intervals: Mapping[tuple[str, str, str], tuple[float, float, float]] = field(default_factory=dict)

    @property
    def rewards(self) -> list[str]:
        """In the order of the first score that has them, controls last."""
        names = list(dict.fromkeys(reward for reward, _ in self.values))
        return sorted(names, key=lambda name: name in self.controls)


def read(folder: str | Path) -> Across:
    """Every ``score.json`` in a folder and the folders in it, a task each.

    Raises:
        UserError: There is none, one that is no score, or a task twice.
    """
    files = sorted(Path(folder).expanduser().glob("**/score.json"))
    if not files:
        raise UserError(f"{folder} holds no score.json: score some tasks first, each with OUT={folder}/<task>.")
    scores = [_load(file) for file in files]
    tasks = tuple(score["task"] or file.parent.name for score, file in zip(scores, files, strict=True))
    twice = sorted({task for task in tasks if tasks.count(task) > 1})
    if twice:
        raise UserError(f"{folder} holds {', '.join(twice)} more than once: keep scores of different goals apart.")
    pairs = dict.fromkeys((reward, metric) for score in scores for reward in score["rewards"] for metric in _metrics())
    get = lambda score, reward, metric: (score["rewards"].get(reward, {}).get(metric) or {}).get("value")
    number = lambda value: np.nan if value is None else float(value)
    values = {pair: np.array([number(get(score, *pair)) for score in scores]) for pair in pairs}
    once = lambda key: tuple(dict.fromkeys(score[key] for score in scores))
    controls = tuple(dict.fromkeys(name for score in scores for name in score["controls"]))
    seeds = tuple(len(set(score["seeds"])) for score in scores)
    confusion, intervals = _confusion(scores, tasks), _intervals(scores, tasks)
    return Across(tasks, once("goal"), once("commit"), seeds, controls, values, confusion, intervals)


def _intervals(
    scores: Sequence[dict[str, Any]], tasks: tuple[str, ...]
) -> dict[tuple[str, str, str], tuple[float, float, float]]:
    number = lambda given: np.nan if given is None else float(given)
    return {
        (reward, metric, task): tuple(number((figure or {}).get(key)) for key in ("value", "low", "high"))
        for score, task in zip(scores, tasks, strict=True)
        for reward, figures in score["rewards"].items()
        for metric, figure in figures.items()
    }


def _confusion(scores: Sequence[dict[str, Any]], tasks: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The columns that single scores hold, put side by side; a reward without any is left out."""
    found: dict[str, np.ndarray] = {}
    for column, (score, task) in enumerate(zip(scores, tasks, strict=True)):
        for reward, given in score["discrimination"].items():
            if task not in given["tasks"]:
                continue
            matrix = found.setdefault(reward, np.full((len(tasks), len(tasks)), np.nan))
            sums = np.array(given["every_step"], np.float64)[:, given["tasks"].index(task)]
            for goal, value in zip(given["goals"], sums, strict=True):
                if goal in tasks:
                    matrix[tasks.index(goal), column] = value
    return found


def _metrics() -> list[str]:
    return list(dict.fromkeys(metric for part in METRICS.values() for metric in part.values()))


def _load(file: Path) -> dict[str, Any]:
    try:
        score = json.loads(file.read_text())
        return {key: score[key] for key in ("task", "goal", "commit", "seeds", "controls", "rewards", "discrimination")}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is no score of make score ({error}): take it away, or score its task again.") from None


def markdown(across: Across) -> str:
    """A table for each variant: the mean over tasks, and the lowest and the highest task."""
    tasks, seeds = ", ".join(across.tasks), " or ".join(map(str, sorted(set(across.seeds))))
    goals, commits = "; ".join(across.goals), ", ".join(commit[:7] or "unknown" for commit in across.commits)
    about = [
        f"Mean over {len(across.tasks)} tasks ({tasks}), in brackets the lowest and the highest task; {seeds} seeds "
        f"each. Goals: {goals}. Commit: {commits}."
    ]
    for variant, title in TITLES.items():
        used = {k: m for k, m in METRICS[variant].items() if any(_known(across, r, m) for r in across.rewards)}
        if not used:
            continue
        about += ["", title, "", f"| reward | {' | '.join(used)} |", f"|---|{'---|' * len(used)}"]
        for reward in across.rewards:
            name = f"{reward} (control)" if reward in across.controls else reward
            cells = [_cell(across.values.get((reward, metric)), metric) for metric in used.values()]
            about.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(about) + "\n"


def _known(across: Across, reward: str, metric: str) -> bool:
    return bool(np.isfinite(across.values.get((reward, metric), np.array([np.nan]))).any())


def _cell(values: np.ndarray | None, metric: str) -> str:
    if values is None or not np.isfinite(values).any():
        return "-"
    write = _percent if metric.endswith("share_by_size") else lambda x: f"{x:.2f}"
    known = values[np.isfinite(values)]
    return f"{write(known.mean())} ({write(known.min())} to {write(known.max())})"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share >= 1e-5 or share == 0 else "<0.001 %"


def table(across: Across) -> str:
    """CSV: reward, metric, task, and value, low and high of every metric; a number that nobody has stays empty."""
    rows = [(*key, *map(_number, figure)) for key, figure in across.intervals.items()]
    return _csv(("reward", "metric", "task", "value", "low", "high"), rows)


def goals_table(across: Across) -> str:
    """CSV: reward, goal, task, and the mean sum at every step of that task's experts under that goal."""
    rows = [
        (reward, across.tasks[goal], across.tasks[task], _number(matrix[goal, task]))
        for reward, matrix in across.confusion.items()
        for goal, task in np.ndindex(matrix.shape)
    ]
    return _csv(("reward", "goal", "task", "every_step"), rows)


def _csv(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heading)
    writer.writerows(rows)
    return text.getvalue()


def _number(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else ""


def write(folder: str | Path, across: Across) -> Sequence[Path]:
    """Writes across.md, across.csv, across.png and, of goals, across_goals.csv and .png into the folder.

    Returns:
        Their paths.
    """
    from genreward_jax.figures.across import across_picture, goals_picture

    paths = [Path(folder).expanduser() / f"across.{ending}" for ending in ("md", "csv", "png")]
    write_text(paths[0], markdown(across))
    write_text(paths[1], table(across))
    across_picture(paths[2], across)
    if across.confusion and len(across.tasks) > 1:
        paths += [path.with_stem("across_goals") for path in paths[1:3]]
        write_text(paths[-2], goals_table(across))
        goals_picture(paths[-1], across)
    return paths
