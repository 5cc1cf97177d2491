"""Learning curves of a study: one picture, a panel a task, a line a condition with the spread of its seeds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax.figures import style

_COLOURS = (style.INK, style.QUIET, style.MARK, style.SECOND, "#3f8f5b", "#a04a8c", "#b8932f")

Curves = Mapping[tuple[str, str, int], list[dict[str, Any]]]


def study_curves(path: str | Path, curves: Curves, key: str = "score", caption: str = "") -> None:
    """Draws evaluations: the mean over seeds as a line, the lowest to the highest seed as a band.

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
    figure = style.new_figure(5.2 * len(tasks) + 2.4, 4.4)
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axes, task in zip(panels, tasks, strict=True):
        style.tidy(axes)
        for colour, condition in zip(_COLOURS * 2, conditions, strict=False):
            steps, values = stacked(curves, task, condition, key)
            if not len(steps):
                continue
            seeds = ", ".join(str(len(stacked(curves, each, condition, key)[1])) for each in tasks)
            label = f"{condition.replace('_', ' ')} ({seeds})"
            axes.plot(steps, values.mean(0), "o-", color=colour, markersize=4, label=label)
            axes.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.12, linewidth=0)
        axes.set_title(task, loc="left", color=style.INK)
        axes.set_xlabel("environment steps")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        if key == "success":
            axes.set_ylim(-0.05, 1.08)
    panels[0].set_ylabel("return (dense reward)" if key == "score" else "success")
    shown = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    title = "condition (seeds)" if len(tasks) == 1 else "condition (seeds of each task)"
    figure.legend(list(shown.values()), list(shown), loc="outside right center", frameon=False, title=title)
    figure.supxlabel(caption, fontsize=9, color=style.QUIET, x=0.01, ha="left")
    style.save(figure, path)


def stacked(curves: Curves, task: str, condition: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Evaluations of all seeds at the steps that every seed has, (S,) and (seeds, S)."""
    found = []
    for (of, name, _), rows in curves.items():
        if (of, name) == (task, condition):
            found.append({int(row["step"]): float(row[key]) for row in rows if row["kind"] == "eval"})
    steps = sorted(set.intersection(*map(set, found))) if found else []
    return np.array(steps), np.array([[run[step] for step in steps] for run in found])
