"""The learning study: the same agent under several rewards, tasks and seeds, one CSV a run, stopped and gone on with.

``configs/study.yaml`` lists what is run. A run that has its CSV is done; one that has only a run directory goes on from
its last checkpoint.
"""

import csv
import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genreward_jax import provenance
from genreward_jax.config import nearest, read_yaml
from genreward_jax.errors import UserError
from genreward_jax.loggers import read_scores
from genreward_jax.rundir import write_text

COLUMNS = ("step", "kind", "score", "score_env", "success", "length")


@dataclass(frozen=True)
class StudyRun:
    """One training: a condition of the study on a task with a seed."""

    task: str
    condition: str
    seed: int
    steps: int
    preset: str
    flags: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.task}/{self.condition}-seed{self.seed}"

    def command(self, logdir: Path) -> list[str]:
        """The training's command line, without the interpreter."""
        own = ["--task", f"metaworld_{self.task}", "--preset", self.preset, "--seed", str(self.seed)]
        return ["train", *own, "--run.steps", str(self.steps), "--logdir", str(logdir), *self.flags]


def plan(
    tasks: list[str] | None = None, conditions: list[str] | None = None, seeds: list[int] | None = None, steps: int = 0
) -> list[StudyRun]:
    """All runs, in the order in which they are made: the first seed of everything comes first.

    Args:
        tasks, conditions, seeds, steps: In place of the file's own; None and 0 leave those.

    Raises:
        UserError: A condition that the file does not list.
    """
    study = read_yaml("study")
    known = study["conditions"]
    chosen = list(conditions or known)
    for name in chosen:
        if name not in known:
            raise UserError(f"There is no condition '{name}' in configs/study.yaml: {nearest(name, list(known))}")
    flags = {
        name: tuple(part for key, value in known[name].items() for part in (f"--{key}", str(value))) for name in chosen
    }
    return [
        StudyRun(task, name, int(seed), int(steps or study["steps"]), study["preset"], flags[name])
        for seed in (seeds or study["seeds"])
        for task in (tasks or study["tasks"])
        for name in chosen
    ]


def carry_out(runs: list[StudyRun], work: Path, out: Path, say: Callable[[str], None] = print) -> None:
    """Trains what has no CSV yet, one after the other, each in a process of its own.

    Args:
        runs: As :func:`plan` gives them.
        work: Run directories go here; they may be deleted once the CSV is there.
        out: CSV files go here, ``<task>/<condition>-seed<k>.csv``.
        say: Told which run begins.

    Raises:
        UserError: A training failed; those before it are kept.
        KeyboardInterrupt: It was stopped; the same call goes on.
    """
    for number, run in enumerate(runs):
        file, logdir = out / f"{run.name}.csv", work / run.name
        if file.is_file():
            continue
        say(f"[{number + 1} of {len(runs)}] {run.name}: {' '.join(run.command(logdir))}")
        done = subprocess.run([sys.executable, "-m", "genreward_jax", *run.command(logdir), "--run.progress", "False"])
        rows = curve(logdir)
        if done.returncode:
            raise UserError(f"{run.name} ended with exit code {done.returncode}; what it said is above.")
        if not any(row["kind"] == "eval" and row["step"] >= run.steps for row in rows):
            raise KeyboardInterrupt  # a polite stop: it saved and left with 0
        write_text(file, table(run, logdir, rows))


def curve(logdir: Path) -> list[dict[str, Any]]:
    """Episodes and evaluations of a run, each a dict with :data:`COLUMNS`, by step.

    A run that was stopped before its first checkpoint evaluates step 0 again: the last evaluation of a step counts.
    """
    rows, evaluated = [], {}
    for line in read_scores(logdir):
        for kind in ("episode", "eval"):
            if f"{kind}/score" in line:
                values = {name: line.get(f"{kind}/{name}", "") for name in COLUMNS[2:]}
                row = {"step": int(line["step"]), "kind": kind, **values}
                if kind == "eval":
                    evaluated[row["step"]] = row
                else:
                    rows.append(row)
    return sorted([*rows, *evaluated.values()], key=lambda row: row["step"])


def table(run: StudyRun, logdir: Path, rows: list[dict[str, Any]]) -> str:
    """The run's CSV: what made it in lines that begin with #, then a line for each episode and evaluation."""
    text = io.StringIO()
    text.write(
        f"# python -m genreward_jax {' '.join(run.command(Path('runs') / run.name))}\n# {provenance.sentence()}\n"
    )
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    return text.getvalue()


def read(folder: Path) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """All CSVs of a study: (task, condition, seed) to rows with numbers, as :func:`curve` gives them.

    Raises:
        UserError: A file that is not one of a study.
    """
    found = {}
    for file in sorted(Path(folder).glob("*/*-seed*.csv")):
        condition, _, seed = file.stem.rpartition("-seed")
        lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
        rows = list(csv.DictReader(lines))
        if not rows or set(rows[0]) != set(COLUMNS) or not seed.isdigit():
            raise UserError(f"{file} is no CSV of a study: its columns must be {', '.join(COLUMNS)}.")
        number = lambda key, value: value if key == "kind" else float(value) if value else float("nan")
        found[file.parent.name, condition, int(seed)] = [{k: number(k, v) for k, v in row.items()} for row in rows]
    return found
