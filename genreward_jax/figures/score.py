"""A score in one picture: who ranks what, the rewards along episodes, and which goal fits which task."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genreward_jax.figures import style
from genreward_jax.score.discrimination import matrix_of

if TYPE_CHECKING:
    from genreward_jax.score.result import Score

COLOURS = {  # of behaviours; also on the page
    "expert": "#2d69af",
    "stop75": "#3f9c8c",
    "stop50": "#8aa63a",
    "stop25": "#d9a21b",
    "noisy1": "#7a68b3",
    "noisy2": "#a65fa4",
    "noisy3": "#c25b86",
    "random": "#c8641e",
}
DRAWN = ("expert", "stop75", "stop25", "random")  # behaviours whose curves are drawn
STOPS = ("stop75", "stop50", "stop25")
TITLES = {"as_trained": "as trained", "every_step": "at every step"}
ACROSS = 3  # panels in a row
MOST = 12  # rewards whose curves or matrices are drawn
FLAT = ("random", "constant", "ramp")  # controls whose curves say nothing


def score_picture(path: str | Path, score: "Score") -> None:
    """Draws ranking bars with intervals, curves of single episodes, and the discrimination matrices.

    Args:
        path: PNG to write.
        score: What was found out.
    """
    curves = [name for name in score.values if name not in FLAT and _has_curve(score, name)][:MOST]
    matrices = list(score.discrimination)[:MOST]
    bars = 1.1 + 0.34 * len(score.figures)
    rows = [-(-len(names) // ACROSS) for names in (curves, matrices)]
    heights = [bars, 2.5 * rows[0], 3.0 * rows[1]]
    shown = [index for index, height in enumerate(heights) if height]
    figure = style.new_figure(12, sum(heights) + 0.9)
    parts = np.atleast_1d(figure.subfigures(len(shown), 1, height_ratios=[heights[index] for index in shown]))
    draw = (_bars, _curves, _matrices)
    names = (list(score.figures), curves, matrices)
    for part, index in zip(parts, shown, strict=True):
        draw[index](part, score, names[index])
    seeds = len(set(score.seeds))
    title = f"{score.task.replace('_', ' ') or 'given episodes'}, {seeds} seed{'s' * (seeds != 1)}"
    figure.suptitle(f"{title}; goal: {score.goal}" if score.goal else title, fontsize=13, color=style.INK)
    style.save(figure, path)


def _bars(part, score: "Score", names: list[str]) -> None:
    _headline(part, "bars: expert above random, area under the ROC curve, 95 % interval")
    places = np.arange(len(names))[::-1]
    for axes, variant in zip(part.subplots(1, 2, sharey=True), TITLES, strict=True):
        style.tidy(axes)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color="#e6e9ed", linewidth=0.8)
        for place, name in zip(places, names, strict=True):
            _bar(axes, place, score.figures[name], variant, name in score.controls)
        axes.axvline(0.5, color=style.QUIET, linewidth=1, linestyle=":")
        axes.set_yticks(places, names)
        axes.tick_params(axis="y", labelcolor=style.INK, labelsize=11)
        axes.set_xlim(-0.02, 1.02)
        axes.set_title(TITLES[variant], fontsize=11, color=style.INK, loc="left")
    handles = [axes.plot([], [], "o", color=COLOURS[b])[0] for b in STOPS]
    _legend(part, handles, [f"above {behaviour}" for behaviour in STOPS])


def _headline(part, text: str) -> None:
    part.suptitle(text, fontsize=11, color=style.QUIET, x=0.01, ha="left")


def _legend(part, handles: list, labels: list[str]) -> None:
    part.legend(handles, labels, loc="upper right", ncols=len(labels), fontsize=9, frameon=False)


def _bar(axes, place: float, figures: dict, variant: str, control: bool) -> None:
    figure = figures.get(f"ranking/{variant}/auc_expert_vs_random")
    if figure and figure["value"] is not None:
        axes.barh(place, figure["value"], height=0.62, color="#c5ccd4" if control else style.MARK, zorder=2)
        if figure["low"] is not None:
            axes.plot([figure["low"], figure["high"]], [place, place], color=style.INK, linewidth=2, zorder=3)
    for number, behaviour in enumerate(STOPS):
        other = figures.get(f"ranking/{variant}/auc_expert_vs_{behaviour}")
        if other and other["value"] is not None:
            style_of = {"color": COLOURS[behaviour], "markeredgecolor": "white", "markersize": 6, "zorder": 4}
            axes.plot(other["value"], place + 0.2 * (1 - number), "o", clip_on=False, **style_of)


def _has_curve(score: "Score", name: str) -> bool:
    return any(np.isfinite(v.every_step).any() for v in score.values[name])


def _grid(part, count: int):
    panels = part.subplots(-(-count // ACROSS), ACROSS, squeeze=False).ravel()
    for axes in panels[count:]:
        axes.set_axis_off()
    return panels[:count]


def _curves(part, score: "Score", names: list[str]) -> None:
    _headline(part, "the reward along single episodes, at every step; a dot is the first success")
    behaviours = [t.behaviour for t in score.trajectories]
    drawn = [b for b in DRAWN if b in behaviours] or list(dict.fromkeys(behaviours))[:4]
    labels = {}
    for axes, name in zip(_grid(part, len(names)), names, strict=True):
        style.tidy(axes)
        for trajectory, values in zip(score.trajectories, score.values[name], strict=True):
            if trajectory.behaviour not in drawn:
                continue
            colour = COLOURS.get(trajectory.behaviour, style.QUIET)
            steps = np.flatnonzero(np.isfinite(values.every_step))
            (line,) = axes.plot(steps, values.every_step[steps], color=colour, linewidth=1, alpha=0.75)
            labels[trajectory.behaviour] = line
            reached = trajectory.success_step
            if reached >= 0 and len(steps):
                nearest = steps[np.abs(steps - reached).argmin()]
                axes.plot(nearest, values.every_step[nearest], "o", color=colour, markersize=5, zorder=3)
        axes.set_title(name, fontsize=11, color=style.INK, loc="left")
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.locator_params(axis="y", nbins=5)
    part.supxlabel("agent steps", fontsize=10, color=style.QUIET)
    order = [b for b in drawn if b in labels]
    _legend(part, [labels[b] for b in order], order)


def _matrices(part, score: "Score", names: list[str]) -> None:
    _headline(
        part, "mean reward sum of a task's experts (across) under each goal (down); the best of a column is framed"
    )
    for axes, name in zip(_grid(part, len(names)), names, strict=True):
        given = score.discrimination[name]
        matrix = matrix_of(np.asarray(given.every_step, np.float64))
        if not np.isfinite(matrix).any():
            matrix = matrix_of(np.asarray(given.as_trained, np.float64))
        axes.imshow(_within_columns(matrix), cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
        axes.set_xticks(range(len(given.tasks)), [_words(t) for t in given.tasks], fontsize=8)
        axes.set_yticks(range(len(given.goals)), [_words(g) for g in given.goals], fontsize=8)
        axes.tick_params(length=0, labelcolor=style.INK)
        axes.spines[:].set_visible(False)
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                axes.text(column, row, f"{value:.4g}", ha="center", va="center", fontsize=8, color=style.INK)
        for column in range(matrix.shape[1]):
            if np.isfinite(matrix[:, column]).any():
                _frame(axes, column, int(np.nanargmax(matrix[:, column])))
        axes.set_title(name, fontsize=11, color=style.INK, loc="left")


def _words(name: str) -> str:
    return name.replace("_", "\n")


def _within_columns(matrix: np.ndarray) -> np.ndarray:
    """Each column from 0 to 1: a task's experts are compared under the goals, not with other tasks'."""
    low, high = np.nanmin(matrix, 0, keepdims=True), np.nanmax(matrix, 0, keepdims=True)
    return (matrix - low) / np.where(high > low, high - low, 1)


def _frame(axes, column: int, row: int) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, fill=False, color=style.SECOND, linewidth=2))
