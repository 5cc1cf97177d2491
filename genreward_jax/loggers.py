"""Where metrics go: JSON lines always, TensorBoard by default, Weights & Biases and scope by flag."""

import collections
import json
import re
import sys
from pathlib import Path

import elements
import numpy as np

from genreward_jax.errors import UserError

SCORES = r"^(episode|eval)/(score|score_env|success|success_last|length)$|^eval/episodes$"
EACH = r"^eval/each_(score|success)$"  # of every evaluation episode: lists, in scores.jsonl only


class JSONLines:
    """Scalars whose names match ``pattern``, one line a step, appended to a file.

    Args:
        path: The file; lines of a run that is continued follow those that are there.
        pattern: Regular expression on the metric's name.
        lists: The same for those that are written as lists of numbers; '' for none.
    """

    def __init__(self, path: Path, pattern: str = ".*", lists: str = "") -> None:
        self.path = Path(path)
        self.pattern = re.compile(pattern)
        self.lists = re.compile(lists) if lists else None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()

    def __call__(self, summaries) -> None:
        number = lambda value: float(value) if np.isfinite(value) else None  # JSON knows no NaN
        lines: dict[int, dict[str, float | list[float]]] = collections.defaultdict(dict)
        for step, name, value in summaries:
            if isinstance(value, str):
                continue
            if value.ndim == 0 and self.pattern.search(name):
                lines[step][name] = number(value)
            elif value.ndim == 1 and self.lists and self.lists.search(name):
                lines[step][name] = [number(each) for each in value]
        with self.path.open("a") as file:
            file.writelines(json.dumps({"step": step, **scalars}) + "\n" for step, scalars in lines.items())


def _summary_writer() -> type:
    """tensorboardX's writer, without torch: it imports that where it is installed, two seconds and hundreds of MB."""
    absent = "torch" not in sys.modules
    if absent:
        sys.modules["torch"] = None  # an import of it fails, which tensorboardX takes for "not installed"
    try:
        from tensorboardX import SummaryWriter
    finally:
        if absent:
            del sys.modules["torch"]
    return SummaryWriter


class TensorBoard:
    """Scalars to TensorBoard event files, by tensorboardX (upstream's own output wants TensorFlow)."""

    def __init__(self, folder: Path) -> None:
        self.writer = _summary_writer()(str(folder), flush_secs=10)

    def __call__(self, summaries) -> None:
        for step, name, value in summaries:
            if not isinstance(value, str) and value.ndim == 0 and np.isfinite(value):
                self.writer.add_scalar(name, float(value), step)
        self.writer.flush()


def make_logger(folder: Path, outputs: tuple[str, ...], run_name: str) -> elements.Logger:
    """An ``elements.Logger`` with the outputs asked for; scores.jsonl and metrics.jsonl are always among them.

    Raises:
        UserError: an output that does not exist, or whose package is not installed.
    """
    sinks = [JSONLines(folder / "metrics.jsonl"), JSONLines(folder / "scores.jsonl", SCORES, EACH)]
    makers = {
        "tensorboard": lambda: TensorBoard(folder / "tensorboard"),
        "wandb": lambda: elements.logger.WandBOutput(run_name),
        "scope": lambda: elements.logger.ScopeOutput(elements.Path(str(folder))),
    }
    for output in outputs:
        if output == "jsonl":
            continue
        if output not in makers:
            raise UserError(f"There is no logger output '{output}': there are jsonl, {', '.join(makers)}.")
        try:
            sinks.append(makers[output]())
        except ImportError as error:
            raise UserError(f"The logger output '{output}' needs a package ({error}): pip install {output}.") from None
    return elements.Logger(elements.Counter(), sinks)


def read_scores(folder: Path) -> list[dict[str, float]]:
    """Lines of a run's scores.jsonl; a line cut off by a kill is left out."""
    rows = []
    file = Path(folder) / "scores.jsonl"
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def drop_after(folder: Path, step: int) -> None:
    """Takes lines of later steps off a run's JSON files: a run that resumes earlier would write them twice."""
    for name in ("metrics.jsonl", "scores.jsonl"):
        file = Path(folder) / name
        if not file.exists():
            continue
        kept = []
        for line in file.read_text().splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError):
                continue
        temporary = file.with_suffix(".tmp")
        temporary.write_text("".join(kept))
        temporary.replace(file)
