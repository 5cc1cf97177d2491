"""What the page of a folder of runs tells, gathered from the run directories."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax.errors import UserError
from genreward_jax.paper_figures import make, pictures
from genreward_jax.paper_figures.match import changes, match
from genreward_jax.paper_figures.plan import WITHOUT_RUNS, Plan
from genreward_jax.paper_figures.runs import Run, find
from genreward_jax.paper_figures.statistics import common_steps, mean_and_deviation


@dataclass
class Line:
    """Runs that differ in their seed only.

    Attributes:
        label: Method, own reward if it is not dense, and what is not the preset's.
        runs: Their numbers on the page, and the runs.
    """

    task: str
    label: str
    runs: list[tuple[int, Run]]

    def mean(self) -> list[list[float | None]]:
        """[step, return, success] at the steps that all seeds have."""
        scored = [run for _, run in self.runs if run.evaluations]
        if not scored or not common_steps(scored):
            return []
        returns, successes = (mean_and_deviation(scored, key) for key in ("return", "success"))
        return [
            [int(step), number(a), number(b)]
            for step, a, b in zip(returns.steps, returns.middle, successes.middle, strict=True)
        ]


@dataclass
class Missing:
    """A figure that lacks runs, or cannot be drawn: why, and the commands that help."""

    figure: str
    title: str
    says: str
    commands: list[str] = field(default_factory=list)


@dataclass
class Report:
    """Everything on the page."""

    folder: Path
    runs: list[Run]
    lines: list[Line]
    scores: list[tuple[Path, dict[str, Any]]]
    missing: list[Missing]
    notes: list[str]

    def name(self, run: Run) -> str:
        """Its place in the folder."""
        place = run.path.relative_to(self.folder) if run.path.is_relative_to(self.folder) else run.path
        return str(place) if place.parts else run.path.name


def gather(folder: Path, plan: Plan) -> Report:
    """Reads a folder.

    Args:
        folder: With run directories, at any depth.
        plan: Of the paper's figures, which say what may be missing.

    Raises:
        UserError: No such folder, or no run in it.
    """
    runs = find(folder)
    if not runs:
        raise UserError(f"There is no run under '{folder}'; name a folder with run directories (RUNS=).")
    return Report(folder, runs, lines_of(runs), scores_of(folder), missing_of(plan, runs, folder), notes_of(runs))


def lines_of(runs: Sequence[Run]) -> list[Line]:
    """The runs by task and by what they are beside their seed, in the order of their paths."""
    found: dict[tuple, Line] = {}
    for index, run in enumerate(runs):
        changed = [(flag.rpartition(".")[2], str(value)) for flag, value, _ in changes(run)]
        reward = [] if run.env_reward == "dense" else [f"{run.env_reward} reward"]
        label = ", ".join([run.method, *reward, *(f"{flag} {Path(value).name}" for flag, value in changed)])
        key = run.task, run.method, run.env_reward, *changed  # files of one name may lie in several folders
        found.setdefault(key, Line(run.task, label, [])).runs.append((index, run))
    presets = {run.flat["preset"] for run in runs}
    if len(presets) > 1:
        for line in found.values():
            line.label += f" ({', '.join(dict.fromkeys(run.flat['preset'] for _, run in line.runs))})"
    return list(found.values())


def state(run: Run) -> str:
    """Finished, how far it is, or that nothing is scored yet."""
    if not run.evaluations:
        return "no scores yet"
    at, of = run.evaluations[-1].step, int(run.flat["run.steps"])
    return "finished" if run.finished else f"{at:,} of {of:,} steps"


def scores_of(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Every score.json that `make score` wrote in or under the folder."""
    found = []
    for file in sorted(folder.rglob("score.json")):
        try:
            content = json.loads(file.read_text())
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and isinstance(content.get("rewards"), dict):
            found.append((file, content))
    return found


def missing_of(plan: Plan, runs: Sequence[Run], folder: Path) -> list[Missing]:
    """For each figure of the paper with some of its runs here, what it lacks; and the others by name."""
    found, none = [], []
    for figure in plan.figures.values():
        if figure.kind in WITHOUT_RUNS:
            continue
        try:
            matched = match(plan, figure, runs)
        except UserError as error:
            found.append(Missing(figure.name, figure.title, str(error)))
            continue
        if not matched.all:
            none.append(figure.name)
        elif matched.missing or figure.asks:
            count = len(matched.missing)
            lacks = f"{count} of its runs {'is' if count == 1 else 'are'} not here" if count else ""
            says = ". ".join(filter(None, (lacks, figure.asks)))
            found.append(Missing(figure.name, figure.title, says, make.commands(matched, folder)))
    if none:
        says = "none of their runs is here; make reproduce FIGURE=... makes them"
        found.append(Missing(", ".join(none), "", says))
    return found


def notes_of(runs: Sequence[Run]) -> list[str]:
    """Sentences on runs that lack something."""
    what = {
        "unfinished": [run for run in runs if run.evaluations and not run.finished],
        "without scores": [run for run in runs if not run.evaluations],
        "without a video of an episode": [run for run in runs if pictures.episode_file(run) is None],
        "silent on hardware and commit (older than provenance.json)": [run for run in runs if not run.starts],
    }
    return [
        f"{len(some)} run{'s' * (len(some) != 1)} {words}: {', '.join(str(run.path) for run in some[:5])}"
        + (f" and {len(some) - 5} more" if len(some) > 5 else "")
        for words, some in what.items()
        if some
    ]


def number(value: float) -> float | None:
    """Five digits, None for what is not finite."""
    return float(f"{value:.5g}") if np.isfinite(value) else None
