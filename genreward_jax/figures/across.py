"""Rewards over several tasks: a row a reward, a dot a task, a bar at their mean."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genreward_jax.figures import style

if TYPE_CHECKING:
    from genreward_jax.score.across import Across

FLAT = ("random", "constant", "ramp", "env")  # controls that know no goal
SHOWN = {
    "every_step": ("expert > random", "> stop25", "> stop75", "order in time"),
    "as_trained": ("expert > random", "> stop25", "> stop75", "noise ladder"),
}
SIGNED = ("order in time", "noise ladder")  # from -1 to 1, the others from 0 to 1
COLOURS = ("#2d69af", "#3f9c8c", "#d9a21b", "#a65fa4", "#c8641e", "#7a68b3", "#8aa63a", "#c25b86")


def across_picture(path: str | Path, across: "Across") -> None:
    """Draws what a reward is worth at every step and as training would pay it, a panel a figure.

    Args:
        path: PNG to write.
        across: Of one task or more.
    """
    from genreward_jax.score.across import METRICS

    rewards = [name for name in across.rewards if name not in ("constant", "ramp")]
    figure = style.new_figure(13, 1.8 + 0.84 * len(rewards))
    parts = figure.subfigures(len(SHOWN), 1)
    for part, (variant, headings) in zip(parts, SHOWN.items(), strict=True):
        panels = part.subplots(1, len(headings), sharey=True)
        part.suptitle(f"{variant.replace('_', ' ')}: dots are tasks, bars their mean", fontsize=11, x=0.01, ha="left")
        for axes, heading in zip(panels, headings, strict=True):
            metric = METRICS[variant][heading]
            _panel(axes, heading, [(across.values[name, metric], name in across.controls) for name in rewards])
            axes.set_yticks(np.arange(len(rewards))[::-1], rewards)
    marks = parts[0].axes[0]
    handles = [marks.plot([], [], "o", color=COLOURS[i % len(COLOURS)])[0] for i in range(len(across.tasks))]
    names = [task.replace("_", " ") for task in across.tasks]
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=10)
    figure.suptitle(f"Goal: {'; '.join(across.goals)}", fontsize=11, x=0.01, ha="left", color=style.INK)
    style.save(figure, path)


def _panel(axes, heading: str, values: list[tuple[np.ndarray, bool]]) -> None:
    """A figure: (its value for each task, whether it is a control's) of each reward, the first on top."""
    style.tidy(axes)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color="#e6e9ed", linewidth=0.8)
    for place, (found, control) in zip(range(len(values))[::-1], values, strict=True):
        if not np.isfinite(found).any():
            continue
        axes.barh(place, np.nanmean(found), height=0.62, color="#c9d0d8" if control else "#b7cce8")
        spread = place + np.linspace(-0.2, 0.2, len(found))  # so that equal tasks do not hide each other
        for index, (x, y) in enumerate(zip(found, spread, strict=True)):
            axes.plot(x, y, "o", color=COLOURS[index % len(COLOURS)], markersize=5)
    signed = heading in SIGNED
    axes.axvline(0 if signed else 0.5, color=style.QUIET, linewidth=1, linestyle=":")
    axes.set_xlim(*((-1.05, 1.05) if signed else (-0.03, 1.03)))
    axes.tick_params(axis="y", labelcolor=style.INK, labelsize=11)
    axes.set_title(heading, fontsize=11, color=style.INK, loc="left")


def goals_picture(path: str | Path, across: "Across") -> None:
    """Draws which goal gives each task's experts most, a panel a reward; its diagonal should be the darkest.

    Args:
        path: PNG to write.
        across: With a confusion matrix of at least one reward.
    """
    rewards = [name for name in across.rewards if name in across.confusion and name not in FLAT]
    names = [task.replace("_", " ") for task in across.tasks]
    columns = min(4, len(rewards))
    rows = -(-len(rewards) // columns)
    figure = style.new_figure(3.1 * columns + 1.6, 3.1 * rows + 1.4)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, reward in zip(panels.flat, rewards, strict=False):
        _goals(axes, across.confusion[reward], names)
        axes.set_title(reward, fontsize=11, color=style.INK, loc="left")
    [axes.set_axis_off() for axes in panels.flat[len(rewards) :]]
    figure.supylabel("goal of", fontsize=10, color=style.QUIET)
    legend = "expert of; dark: most of its column, light: least; dot: the goal that gives most"
    figure.supxlabel(legend, fontsize=10, color=style.QUIET)
    style.save(figure, path)


def _goals(axes, matrix: np.ndarray, names: list[str]) -> None:
    """One reward's matrix, each column from its least to its most: tasks earn on different scales."""
    shown = np.full(matrix.shape, np.nan)
    for column in np.flatnonzero(np.isfinite(matrix).any(0)):
        sums = matrix[:, column]
        low, high = np.nanmin(sums), np.nanmax(sums)
        shown[:, column] = (sums - low) / (high - low) if high > low else 0.5
        axes.plot(column, np.nanargmax(sums), "o", color=style.SECOND, markersize=6)
    axes.imshow(shown, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(labelsize=9, color=style.FAINT)
