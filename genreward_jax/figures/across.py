"""Rewards over several tasks: a row a reward, a dot a task, a bar at their mean."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genreward_jax.figures import style

if TYPE_CHECKING:
    from genreward_jax.score.across import Across

SHOWN = ("expert > random", "> stop25", "> stop75", "order in time")  # of every_step
COLOURS = ("#2d69af", "#3f9c8c", "#d9a21b", "#a65fa4", "#c8641e", "#7a68b3", "#8aa63a", "#c25b86")


def across_picture(path: str | Path, across: "Across") -> None:
    """Draws what a reward at every step is worth, a panel a figure.

    Args:
        path: PNG to write.
        across: Of one task or more.
    """
    from genreward_jax.score.across import METRICS

    rewards = [name for name in across.rewards if name not in ("constant", "ramp")]
    figure = style.new_figure(13, 1.5 + 0.42 * len(rewards))
    panels = figure.subplots(1, len(SHOWN), sharey=True)
    places = np.arange(len(rewards))[::-1]
    for axes, heading in zip(panels, SHOWN, strict=True):
        style.tidy(axes)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color="#e6e9ed", linewidth=0.8)
        for place, reward in zip(places, rewards, strict=True):
            _row(axes, place, across.values[reward, METRICS["every_step"][heading]], reward in across.controls)
        chance = 0 if heading == "order in time" else 0.5
        axes.axvline(chance, color=style.QUIET, linewidth=1, linestyle=":")
        axes.set_xlim(-1.05 if not chance else -0.03, 1.05 if not chance else 1.03)
        axes.set_yticks(places, rewards)
        axes.tick_params(axis="y", labelcolor=style.INK, labelsize=11)
        axes.set_title(heading, fontsize=11, color=style.INK, loc="left")
    handles = [panels[0].plot([], [], "o", color=COLOURS[i % len(COLOURS)])[0] for i in range(len(across.tasks))]
    names = [task.replace("_", " ") for task in across.tasks]
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=10)
    title = f"at every step; bar: mean over tasks. Goal: {'; '.join(across.goals)}"
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    style.save(figure, path)


def _row(axes, place: int, values: np.ndarray, control: bool) -> None:
    if not np.isfinite(values).any():
        return
    axes.barh(place, np.nanmean(values), height=0.62, color="#c9d0d8" if control else "#b7cce8")
    spread = place + np.linspace(-0.2, 0.2, len(values))  # so that equal tasks do not hide each other
    for index, (x, y) in enumerate(zip(values, spread, strict=True)):
        axes.plot(x, y, "o", color=COLOURS[index % len(COLOURS)], markersize=5)
