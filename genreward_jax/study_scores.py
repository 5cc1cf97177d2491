"""Did ``make score`` know beforehand? What a study's agents learned, beside what their rewards scored before training.

A pair is a task and a condition with an added reward: how well its agents did, and the figures of its reward on that
task. Spearman's rank correlation over pairs says whether rewards with higher figures taught more.
"""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax import study
from genreward_jax.config import read_yaml
from genreward_jax.correlation import FEWEST, RESAMPLES, correlate
from genreward_jax.errors import UserError
from genreward_jax.rundir import write_text

METRICS = (
    *(
        f"ranking/{variant}/{name}"
        for variant in ("as_trained", "every_step")
        for name in (
            "auc_expert_vs_random",
            "auc_expert_vs_stop25",
            "kendall_tau_b_stop_ladder",
            "kendall_tau_b_noise_ladder",
        )
    ),
    "alignment/every_step/spearman_time",
    "agent/as_trained/share_by_size",
)
COMPARISON = "sparse"  # the condition that adds nothing: gains are over it
LEARNED = {
    "success": "Success",
    "return": "Return (dense reward)",
    "success_gain": f"Success, less that of `{COMPARISON}`",
    "return_gain": f"Return, less that of `{COMPARISON}`",
}

Figures = dict[str, float]
Runs = dict[int, list[dict[str, Any]]]  # a seed to its rows


@dataclass(frozen=True)
class Pair:
    """What was learned with a reward on a task, and what the reward scored there.

    Attributes:
        task, condition: Of the study.
        reward: Its name in ``score.json``.
        seeds: How many runs the means are of.
        learned: The keys of :data:`LEARNED`; success in [0, 1], returns in the dense reward's units an episode. NaN
            where there is none.
        metrics: :data:`METRICS`, NaN where the score has none.
    """

    task: str
    condition: str
    reward: str
    seeds: int
    learned: Figures
    metrics: Figures


def report(
    folder: Path,
    out: Path,
    tasks: list[str] | None = None,
    conditions: list[str] | None = None,
    seeds: list[int] | None = None,
) -> str:
    """Pairs runs with scores, writes ``scores.csv`` and ``scores.md`` into the study's folder, gives the latter's text.

    Args:
        folder: Of ``<task>/score.json``, as ``make score`` writes them.
        out: The study's CSV files.
        tasks, conditions, seeds: Only these; None is all that configs/study.yaml lists or ``out`` holds.

    Raises:
        UserError: No scores, no runs, a file that is none of these, or fewer than three pairs; ``scores.csv`` is
            written in the last case too.
    """
    scores, notes = read_scores(folder)
    curves = {key: rows for key, rows in study.read(out).items() if seeds is None or key[2] in seeds}
    if not curves:
        raise UserError(f"There is no CSV of a study in {out}: name its folder with --out, or train with make study.")
    pairs, left_out = make_pairs(curves, scores, expected(curves, tasks, conditions))
    notes = [*left_out, *undefined(pairs), *unequal_lengths(curves, pairs), *notes]
    write_text(Path(out) / "scores.csv", as_csv(pairs))
    text = as_markdown(pairs, notes)
    write_text(Path(out) / "scores.md", text)
    if len(pairs) < FEWEST:
        raise UserError(" ".join([_too_few(pairs), *notes]))
    return text


def read_scores(folder: Path) -> tuple[dict[str, dict[str, Figures]], list[str]]:
    """All ``<folder>/*/score.json``: a task to its rewards to their metrics (NaN where undefined), and what to tell.

    Raises:
        UserError: There is none, one is no score, or two are of the same task.
    """
    found, files, notes = {}, {}, []
    for file in sorted(Path(folder).glob("*/score.json")):
        try:
            content = json.loads(file.read_text())
            task, rewards = content["task"], content["rewards"]
            figures = {
                name: {metric: _number((given.get(metric) or {}).get("value")) for metric in METRICS}
                for name, given in rewards.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{file} is no score that make score wrote ({type(error).__name__}: {error}); make it again, or take "
                "it away."
            ) from None
        if not task:
            notes.append(f"{file} is of given episodes, without a task: it goes with no run.")
            continue
        if task in found:
            raise UserError(f"{files[task]} and {file} are both of the task '{task}'; leave one of them in {folder}.")
        found[task], files[task] = figures, file
    if not found:
        raise UserError(
            f"There is no <task>/score.json of a task in {folder}: make score TASK=<task> OUT={folder}/<task>."
        )
    return found, notes


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def reward_of(condition: dict[str, Any]) -> str:
    """The name in ``score.json`` of what a condition of configs/study.yaml adds; '' for a condition that adds nothing.

    It is the method; without one, the dense reward of the environment is the control ``env``.
    """
    if condition["method"] != "none":
        return condition["method"]
    return "env" if condition.get("env.metaworld.reward", "dense") == "dense" else ""


def expected(
    curves: dict[tuple[str, str, int], Any], tasks: list[str] | None = None, conditions: list[str] | None = None
) -> list[tuple[str, str]]:
    """Tasks and conditions that should make a pair: those asked for, else those listed and then those that were run."""
    planned = [(run.task, run.condition) for run in study.plan(tasks, conditions)]
    there = [key[:2] for key in curves]
    also = [(t, c) for t, c in there if (not tasks or t in tasks) and (not conditions or c in conditions)]
    return list(dict.fromkeys([*planned, *also]))


def make_pairs(
    curves: dict[tuple[str, str, int], list[dict[str, Any]]],
    scores: dict[str, dict[str, Figures]],
    wanted: list[tuple[str, str]],
) -> tuple[list[Pair], list[str]]:
    """The pairs that have runs and a score, and sentences that name those that do not.

    Args:
        curves: As :func:`genreward_jax.study.read` gives them.
        scores: As :func:`read_scores` gives them.
        wanted: Tasks and conditions.
    """
    known, pairs, left_out, alone = read_yaml("study")["conditions"], [], [], []
    for task, condition in wanted:
        if condition not in known:
            left_out.append(f"{task}/{condition} (not in configs/study.yaml)")
            continue
        reward = reward_of(known[condition])
        if not reward:
            continue
        runs, plain = _runs(curves, task, condition), _runs(curves, task, COMPARISON)
        lacks = [] if runs else ["no run"]
        if reward not in scores.get(task, {}):
            lacks.append(f"no score of {reward}" if task in scores else "no score")
        if lacks:
            left_out.append(f"{task}/{condition} ({', '.join(lacks)})")
            continue
        if not plain and task not in alone:
            alone.append(task)
        pairs.append(Pair(task, condition, reward, len(runs), learned(runs, plain), scores[task][reward]))
    notes = [f"Left out: {'; '.join(left_out)}."] if left_out else []
    if alone:
        notes.append(f"Without a run of {COMPARISON}, so without gains: {', '.join(alone)}.")
    return pairs, notes


def _runs(curves: dict[tuple[str, str, int], list[dict[str, Any]]], task: str, condition: str) -> Runs:
    """A condition's runs on a task that were evaluated after step 0."""
    found = {seed: _evaluations(rows) for (t, c, seed), rows in curves.items() if (t, c) == (task, condition)}
    return {seed: rows for seed, rows in found.items() if rows}


def _evaluations(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["kind"] == "eval" and row["step"] > 0]


def learned(runs: Runs, plain: Runs) -> Figures:
    """:data:`LEARNED` of a condition's runs: means over evaluations, then over seeds, and the same less ``plain``'s."""
    means = {key: _mean(runs, column) for key, column in (("success", "success"), ("return", "score"))}
    gains = {
        "success_gain": means["success"] - _mean(plain, "success"),
        "return_gain": means["return"] - _mean(plain, "score"),
    }
    return means | gains


def _mean(runs: Runs, column: str) -> float:
    return float(np.mean([np.mean([row[column] for row in rows]) for rows in runs.values()])) if runs else np.nan


def undefined(pairs: list[Pair]) -> list[str]:
    """A sentence that names the numbers that single pairs lack, if any does; gains without a comparison are not among
    them."""
    lacking = {}
    for pair in pairs:
        numbers = {"success": pair.learned["success"], "return": pair.learned["return"], **pair.metrics}
        for name, value in numbers.items():
            if not np.isfinite(value):
                lacking.setdefault(name, []).append(f"{pair.task}/{pair.condition}")
    said = [f"{name} ({', '.join(names)})" for name, names in lacking.items()]
    return [f"Undefined, and left out of that correlation only: {'; '.join(said)}."] if said else []


def unequal_lengths(curves: dict[tuple[str, str, int], list[dict[str, Any]]], pairs: list[Pair]) -> list[str]:
    """A sentence on each task whose runs do not end at the same step: their means are not of the same training."""
    said = []
    for task in dict.fromkeys(pair.task for pair in pairs):
        used = {pair.condition for pair in pairs if pair.task == task} | {COMPARISON}
        ends = {int(r[-1]["step"]) for name in used for r in _runs(curves, task, name).values()}
        if len(ends) > 1:
            steps = f"{min(ends):,} to {max(ends):,}"
            said.append(f"The runs on {task} end at steps from {steps}: their means cannot quite be compared.")
    return said


def as_csv(pairs: list[Pair]) -> str:
    """A line a pair; a number that there is not is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["task", "condition", "reward", "seeds", *LEARNED, *METRICS])
    for pair in pairs:
        numbers = [*(pair.learned[key] for key in LEARNED), *(pair.metrics[name] for name in METRICS)]
        cells = [f"{value:.6g}" if np.isfinite(value) else "" for value in numbers]
        writer.writerow([pair.task, pair.condition, pair.reward, pair.seeds, *cells])
    return text.getvalue()


def as_markdown(pairs: list[Pair], notes: list[str]) -> str:
    """The page: how few pairs there are, a table for each of :data:`LEARNED`, and the notes."""
    lines = ["# Did `make score` know beforehand?", ""]
    if len(pairs) < FEWEST:
        return "\n".join([*lines, _too_few(pairs), *(f"\n{note}" for note in notes)]) + "\n"
    lines += [_how_few(pairs), "", *(f"{note}\n" for note in notes), _EXPLAINED]
    tasks = [pair.task for pair in pairs]
    for key, title in LEARNED.items():
        lines += ["", f"## {title}", "", "| metric | pairs | ρ | p | tasks | ρ within tasks | p within tasks |"]
        lines.append("|---|" + "---:|" * 6)
        outcomes = np.array([pair.learned[key] for pair in pairs])
        for name in METRICS:
            found = correlate(np.array([pair.metrics[name] for pair in pairs]), outcomes, tasks)
            cells = [found.pairs, _rho(found.rho), _p(found.p), found.tasks, _rho(found.within), _p(found.within_p)]
            lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


_EXPLAINED = (
    "What was learned is a mean over a run's evaluations after step 0, then over seeds. ρ is Spearman's rank "
    f"correlation; p is two-sided, from all permutations of the pairs or {RESAMPLES:,} random ones. Within tasks, "
    "pairs are ranked and permuted inside each task that has at least two, so that it does not count which task is "
    "easy. '-' is undefined: a constant column, or fewer than three pairs. `share_by_size` and the reward `env` are "
    "of the environment's reward that `make score` was given, by default the dense one."
)


def _too_few(pairs: list[Pair]) -> str:
    count = {0: "no pair", 1: "1 pair"}.get(len(pairs), f"{len(pairs)} pairs")
    return f"Nothing can be correlated yet: there is {count} of runs and a score, and {FEWEST} are needed."


def _how_few(pairs: list[Pair]) -> str:
    count, tasks = len(pairs), len({pair.task for pair in pairs})
    seeds = sorted({pair.seeds for pair in pairs})
    different = len({(pair.task, pair.reward) for pair in pairs})
    said = [
        f"{'Only ' * (count < 30)}{count} pairs of a task and a condition, on {tasks} task{'s' * (tasks != 1)}, of "
        f"{' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} seed{'s' * (seeds[-1] != 1)} each."
    ]
    if count < 5:
        said.append("With so few pairs chance makes any correlation, 1 and -1 included.")
    else:
        often = 1.96 / np.sqrt(count - 1)
        said.append(f"With {count} pairs chance makes a correlation beyond ±{often:.2f} once in twenty times.")
    said.append(f"The tables hold {len(METRICS) * len(LEARNED)} correlations over all pairs: some are large by chance.")
    if different < count:
        said.append(
            f"Conditions with the same reward share its score: there are {different} different ones, so the pairs are "
            "not independent and p tends to be too small."
        )
    return " ".join(said)


def _rho(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"


def _p(value: float) -> str:
    return "-" if np.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"
