"""Learning curves of a study: one picture, a row a task, a panel a condition, a line a seed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from genreward_jax.figures import style

Curves = Mapping[tuple[str, str, int], list[dict[str, Any]]]


def study_curves(path: str | Path, curves: Curves, key: str = "score", caption: str = "") -> None:
    """Draws evaluations, a row a task and a panel a condition: a thin line a seed, a thick one for their mean.

    Bands of several conditions in one panel hide each other, and of three seeds each is worth seeing.

    Args:
        path: PNG to write.
        curves: (task, condition, seed) to rows with ``step``, ``kind`` and ``key``.
        key: 'score' (the environment's own dense return) or 'success'.
        caption: What else one must know to read it: steps, machine.

    Raises:
        ValueError: Nothing to draw.
    """
    tasks = list(dict.fromkeys(task for task, _, _ in curves))
    conditions = list(dict.fromkeys(condition for _, condition, _ in curves))
    if not tasks:
        raise ValueError("a study without runs has no curves")
    figure = style.new_figure(2.1 * len(conditions) + 1.2, 2.4 * len(tasks) + 0.8)
    panels = figure.subplots(len(tasks), len(conditions), squeeze=False, sharex=True, sharey="row")
    for row, task in zip(panels, tasks, strict=True):
        for axes, condition in zip(row, conditions, strict=True):
            style.tidy(axes)
            steps, values = stacked(curves, task, condition, key)
            for seed in values:
                axes.plot(steps, seed, color=style.MARK, alpha=0.45, linewidth=1)
            if len(steps):
                axes.plot(steps, values.mean(0), "o-", color=style.INK, markersize=4, linewidth=2)
            axes.xaxis.set_major_locator(MaxNLocator(3))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axes.text(
                0.03, 0.97, _seeds(len(values)), transform=axes.transAxes, va="top", fontsize=9, color=style.QUIET
            )
            if key == "success":
                axes.set_ylim(-0.05, 1.15)
        row[0].set_ylabel(f"{task}\n{'return (dense reward)' if key == 'score' else 'success'}")
    for axes, condition in zip(panels[0], conditions, strict=True):
        axes.set_title(condition.replace("_", " "), loc="left", color=style.INK, fontsize=10)
    for axes in panels[-1]:
        axes.set_xlabel("environment steps")
    figure.supxlabel(caption, fontsize=9, color=style.QUIET, x=0.01, ha="left")
    style.save(figure, path)


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}" if count else "no run"


def stacked(curves: Curves, task: str, condition: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Evaluations of all seeds at the steps that every seed has, (S,) and (seeds, S)."""
    found = []
    for (of, name, _), rows in curves.items():
        if (of, name) == (task, condition):
            found.append({int(row["step"]): float(row[key]) for row in rows if row["kind"] == "eval"})
    steps = sorted(set.intersection(*map(set, found))) if found else []
    return np.array(steps), np.array([[run[step] for step in steps] for run in found])
