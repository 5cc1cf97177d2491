"""Drawing a figure from the runs that are there, and saying what is missing."""

import importlib
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from genreward_jax.errors import UserError
from genreward_jax.paper_figures.caption import caption
from genreward_jax.paper_figures.match import Matched, match
from genreward_jax.paper_figures.plan import WITHOUT_RUNS, Figure, Plan
from genreward_jax.paper_figures.runs import Run

MODULES = {"second_best": "key_frame"}  # of kinds whose room has another name


@dataclass
class Drawn:
    """What became of a figure.

    Attributes:
        files: That were written.
        missing: Of its runs, what they are and the command that makes each.
        reproduce: The make line that makes them all; '' where nothing is missing.
        unscored: Runs that are left out, as they have no evaluation yet.
    """

    figure: Figure
    files: list[Path]
    missing: list[str]
    reproduce: str
    unscored: list[Path] = field(default_factory=list)


def draw(plan: Plan, name: str, runs_folder: Path, found: Sequence[Run], out: Path, preset: str = "") -> Drawn:
    """Draws one figure from what is there, as PNG and PDF with the CSV behind it and its caption.

    Args:
        plan: Of all figures.
        name: Of the figure.
        runs_folder: Where the runs are, for the commands that make the missing ones.
        found: The runs in it.
        out: Folder for ``figure_<name>.png`` and its like.
        preset: Only runs with this one; '' takes what is there.

    Raises:
        UserError: There is no such figure, its runs do not go together, or none of them has scores.
    """
    figure = plan.figure(name)
    stem = out / f"figure_{figure.name}"
    room = importlib.import_module(f"genreward_jax.paper_figures.{MODULES.get(figure.kind, figure.kind)}")
    if figure.kind in WITHOUT_RUNS:
        return Drawn(figure, room.write(figure, stem), [], "")
    matched = match(plan, figure, found, preset)
    missing = commands(matched, runs_folder)
    reproduce = f"make reproduce FIGURE={figure.name} PRESET={matched.preset}" if missing or figure.asks else ""
    if str(runs_folder) != default_runs(matched.preset):
        reproduce += f" RUNS={shlex.quote(str(runs_folder))}" if reproduce else ""
    if plan.file != Plan.file:
        reproduce += f" FLAGS={shlex.quote(f'--plan {shlex.quote(plan.file)}')}" if reproduce else ""
    if not matched.all:
        return Drawn(figure, [], missing, reproduce)
    unscored = _leave_out_unscored(matched)
    words: Callable[..., list[str]] = lambda *more: caption(plan, matched, *more)
    files = room.write(matched, stem, words)
    return Drawn(figure, files, missing, reproduce, unscored)


def _leave_out_unscored(matched: Matched) -> list[Path]:
    """Takes runs without an evaluation out of a figure, and says so in its caption; gives their folders.

    Raises:
        UserError: No run has one.
    """
    unscored = [run for run in matched.all if not run.evaluations]
    if len(unscored) == len(matched.all):
        unscored[0].scored()
    if unscored:
        count = len(unscored)
        matched.runs = {cell: [run for run in runs if run.evaluations] for cell, runs in matched.runs.items()}
        matched.notes.append(f"left out, without an evaluation yet: {count} run{'s' * (count > 1)}")
    return [run.path for run in unscored]


def default_runs(preset: str) -> str:
    """Where `make reproduce` puts the runs of all figures, which share many."""
    return f"runs/figures/{preset}"


def commands(matched: Matched, runs_folder: Path) -> list[str]:
    """The command line of each missing run."""
    lines = []
    for wanted in matched.missing:
        job = wanted.job(matched.preset)
        words = ["python", "-m", "genreward_jax", "train", *job.flags, "--logdir", str(runs_folder / job.name)]
        lines.append(shlex.join(words))
    return lines


def said(drawn: Drawn, most: int = 6) -> str:
    """A figure's outcome in lines for the terminal: files, what is missing, and what makes it."""
    figure = drawn.figure
    lines = [f"Figure {figure.name}: {', '.join(map(str, drawn.files)) or 'nothing to draw yet'}"]
    if drawn.missing:
        count = len(drawn.missing)
        lines.append(f"  {count} run{'s are' if count > 1 else ' is'} missing; all of them: {drawn.reproduce}")
        lines += [f"    {line}" for line in drawn.missing[:most]]
        if count > most:
            listing = drawn.reproduce.replace("make reproduce", "make figures", 1)
            lines.append(f"    and {count - most} more: {listing} lists all")
    lines += [f"  left out, as it has no evaluation in scores.jsonl yet: {path}" for path in drawn.unscored]
    if figure.asks:
        lines.append(f"  {figure.asks}")
    return "\n".join(lines)


def check(plan: Plan, name: str) -> list[str]:
    """The names of the figures that are asked for: one, several with commas, or all for ''.

    Raises:
        UserError: There is no such figure.
    """
    if not name:
        return list(plan.figures)
    names = [plan.figure(part).name for part in name.split(",") if part.strip()]
    if not names:
        raise UserError(f"FIGURE={name} names no figure: there are {', '.join(plan.figures)}.")
    return names
