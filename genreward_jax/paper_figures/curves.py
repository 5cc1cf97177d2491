"""Figures 5, 7, 9, 10: return and success over steps, and the interquartile mean beside them."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax.figures import curves as single
from genreward_jax.figures import style
from genreward_jax.paper_figures import sheet
from genreward_jax.paper_figures.match import Matched
from genreward_jax.paper_figures.plan import Figure, Group, settings
from genreward_jax.paper_figures.runs import Run
from genreward_jax.paper_figures.statistics import (
    KEYS,
    Curve,
    common_steps,
    complete_seeds,
    interquartile,
    mean_and_deviation,
)

BY_METHOD = {
    "none": style.INK,
    "roboclip": "#3f8f5b",
    "diffusion_reward": "#a04a8c",
    "tadpole": "#b8932f",
    "genreward": style.MARK,
    "genreward_plus": style.SECOND,
}
OTHERS = ("#3f8f5b", "#a04a8c", "#b8932f", "#4aa3a3", "#c25b86", "#5a6470")
LABELS = {"return": "return (dense reward)", "success": "success"}
LINE, WIDER = 1.8, 2.2  # points; a line beneath others is so much wider for each of them
SEEN = 0.01  # of the range of a panel's lines: what is closer than that lies on each other
COLUMNS = ("panel", "task", "line", "statistic", "key", "step", "middle", "low", "high", "seeds", "episodes")
EPISODES = ("run", "task", "env_reward", "method", "seed", "step", "episode", "return", "success")


@dataclass(frozen=True)
class Panel:
    """One pair of axes, return and success: its curves by label.

    Attributes:
        title: Above it.
        task: Underscore name; '' for several.
        statistic: 'mean' of episodes with their deviation, or 'iqm'.
        curves: key, then label, to the curve; lines without runs are not there.
        printed: label to what the paper prints of the end.
    """

    title: str
    task: str
    statistic: str
    curves: Mapping[str, Mapping[str, Curve]]
    printed: Mapping[str, float]


def task_panels(figure: Figure, group: Group, runs: Mapping[tuple[str, str], Sequence[Run]]) -> list[Panel]:
    """A panel of each task of a group."""
    labels = [line.label for line in group.lines]
    made = []
    for task in group.tasks:
        there = [label for label in labels if runs.get((task, label))]
        found = {key: {label: mean_and_deviation(runs[task, label], key) for label in there} for key in KEYS}
        title = task.replace("_", " ").title()
        made.append(Panel(title, task, "mean", found, dict(figure.printed.get(task, {}))))
    return made


def panels_of(figure: Figure, group: Group, runs: Mapping[tuple[str, str], Sequence[Run]]) -> list[Panel]:
    """A group's panels: one a task, and one of the interquartile mean over all of them."""
    labels = [line.label for line in group.lines]
    found = {key: {} for key in KEYS}
    for label in labels:
        curves = {key: interquartile([runs.get((task, label), []) for task in group.tasks], key) for key in KEYS}
        for key, curve in curves.items():
            if curve is not None:  # every task has the line, and there is a step at which all of it was evaluated
                found[key][label] = curve
    count = len(group.tasks)
    title = f"interquartile mean, {count} tasks" if count > 1 else "interquartile mean"
    return [*task_panels(figure, group, runs), Panel(title, "" if count > 1 else group.tasks[0], "iqm", found, {})]


def colours(group: Group, preset: str) -> dict[str, str]:
    """A colour for each line, the same in all figures for a method as it is; others for what varies a flag of it."""
    plain = {line.label: BY_METHOD.get(line.method) for line in group.lines if not settings(line, preset)[2]}
    rest = itertools.cycle(colour for colour in OTHERS if colour not in plain.values())
    return {line.label: plain.get(line.label) or next(rest) for line in group.lines}


def draw(matched: Matched, notes: Sequence[str]) -> tuple[Any, list[tuple[Group, list[Panel]]]]:
    """The picture, and the panels it shows.

    Args:
        matched: The figure's runs, at least one, all with scores.
        notes: Below it.
    """
    figure = matched.figure
    groups = [(group, panels_of(figure, group, matched.runs)) for group in figure.groups]
    width = max(3.0 * sum(len(panels) for _, panels in groups) + 0.6, 8.4)
    picture, above = sheet.new(width, 5.9, f"Figure {figure.name}: {figure.title}", notes)
    parts = np.atleast_1d(above.subfigures(1, len(groups), width_ratios=[len(panels) for _, panels in groups]))
    for part, (group, panels) in zip(parts, groups, strict=True):
        draw_group(part, group, panels, matched.preset)
    return picture, groups


def draw_group(part: Any, group: Group, panels: Sequence[Panel], preset: str) -> None:
    """A group's panels side by side, returns above successes, and the legend below."""
    axes = part.subplots(2, len(panels), squeeze=False, sharex="col", height_ratios=(1.7, 1))
    chosen = colours(group, preset)
    for column, panel in enumerate(panels):
        for row, key in enumerate(KEYS):
            _panel(axes[row][column], panel, key, chosen)
        if column and len(group.tasks) == 1:  # the same returns, summed up otherwise
            axes[0][column].set_ylim(axes[0][0].get_ylim())
        axes[0][column].set_title(panel.title, loc="left", fontsize=11, color=style.INK)
        axes[1][column].set_xlabel("environment steps", fontsize=10)
    for row, key in enumerate(KEYS):
        axes[row][0].set_ylabel(LABELS[key], fontsize=10)
    handles = [axes[0][0].plot([], [], "-", color=colour, linewidth=2.4)[0] for colour in chosen.values()]
    counts = {label: _seeds(panels, label) for label in chosen}
    names = [f"{label}{'' if counts[label] else ' (missing)'}" for label in chosen]
    room = 34 * len(panels)  # letters in a row
    columns = max(1, min(len(names), room // (6 + max(map(len, names)))))
    part.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False)
    if group.name:
        part.suptitle(group.name, fontsize=11.5, color=style.QUIET, x=0.01, ha="left")


def _seeds(panels: Sequence[Panel], label: str) -> int:
    return max((panel.curves["return"][label].seeds for panel in panels if label in panel.curves["return"]), default=0)


def _panel(axes: Any, panel: Panel, key: str, chosen: Mapping[str, str]) -> None:
    style.tidy(axes)
    axes.tick_params(labelsize=9)
    if panel.statistic == "iqm":
        axes.set_facecolor("#f5f7f9")
    curves = panel.curves[key]
    covered = covered_by(curves)
    for label, curve in curves.items():
        marked, wider = "o-" if len(curve.steps) <= 12 else "-", WIDER * covered[label]
        width, size = LINE + wider, 3.5 + wider
        axes.plot(curve.steps, curve.middle, marked, color=chosen[label], markersize=size, linewidth=width)
        # A deviation of ones and zeros leaves the scale; the table has it.
        if np.isfinite(curve.low).any() and (key == "return" or panel.statistic == "iqm"):
            axes.fill_between(curve.steps, curve.low, curve.high, color=chosen[label], alpha=0.13, linewidth=0)
    steps = [step for curve in curves.values() for step in curve.steps]
    end = float(max(steps, default=1)) or 1.0
    axes.set_xlim(-0.03 * end, 1.05 * end)
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    axes.locator_params(axis="x", nbins=4)
    if not curves:
        axes.text(0.5, 0.5, "no runs", transform=axes.transAxes, ha="center", va="center", color=style.FAINT)
    if key == "success":
        axes.set_ylim(-0.05, 1.08)
        axes.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        return
    edges = [x for curve in curves.values() for x in (*curve.middle, *curve.low, *curve.high)]
    low, high = single.limits(edges)
    _printed(axes, panel.printed, chosen, (low, high))


def covered_by(curves: Mapping[str, Curve]) -> dict[str, int]:
    """How many of the lines drawn after each one hide it: equal to it everywhere, as far as one can see."""
    values = [x for curve in curves.values() for x in curve.middle if np.isfinite(x)]
    seen = max(SEEN * (max(values) - min(values)), 1e-9) if values else 0.0

    def hides(one: Curve, other: Curve) -> bool:
        same = len(one.steps) == len(other.steps) and np.array_equal(one.steps, other.steps)
        return same and bool(np.allclose(one.middle, other.middle, rtol=0, atol=seen, equal_nan=True))

    drawn = list(curves.values())
    return {label: sum(hides(drawn[i], later) for later in drawn[i + 1 :]) for i, label in enumerate(curves)}


def _printed(axes: Any, printed: Mapping[str, float], chosen: Mapping[str, str], limits: tuple[float, float]) -> None:
    """The paper's own end points: marks at the right edge, or in words where they are far above the curves."""
    low, high = limits
    top = max(printed.values(), default=0.0)
    near = top <= 4 * high
    axes.set_ylim(low, max(high, 1.08 * top) if near else high)
    if not near:
        said = ", ".join(f"{label} {value:g}" for label, value in printed.items())
        axes.text(
            0.02, 0.985, f"the paper's ends, far above:\n{said}", transform=axes.transAxes, fontsize=8.5,
            color=style.QUIET, ha="left", va="top",
        )  # fmt: skip
        return
    end = axes.get_xlim()[1]
    for label, value in printed.items():
        colour = chosen.get(label, style.QUIET)
        axes.plot(end, value, marker=8, markersize=9, color=colour, clip_on=False, zorder=5, linestyle="")
        axes.annotate(
            f"paper {value:g}", (end, value), xytext=(-10, 0), textcoords="offset points", fontsize=8.5, color=colour,
            ha="right", va="center",
        )  # fmt: skip


def _short(value: float) -> str:
    """1e6 steps as '1M'."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def drawn_rows(groups: Sequence[tuple[Group, Sequence[Panel]]]) -> Iterator[tuple]:
    """What is drawn: a row of :data:`COLUMNS` for each point of a line."""
    for group, panels in groups:
        for panel, key in itertools.product(panels, KEYS):
            name = f"{group.name}: {panel.title}" if group.name else panel.title
            for label, curve in panel.curves[key].items():
                for i, step in enumerate(curve.steps):
                    numbers = [_number(x[i]) for x in (curve.middle, curve.low, curve.high)]
                    where = (name, panel.task, label, panel.statistic, key, int(step))
                    yield *where, *numbers, curve.seeds, int(curve.episodes[i])


def episode_rows(runs: Sequence[Run]) -> Iterator[tuple]:
    """What is behind it: a row of :data:`EPISODES` for each evaluation episode, or its mean where no more was kept."""
    for run in runs:
        for evaluation in run.evaluations:
            who = (run.path, run.task, run.env_reward, run.method, run.seed, evaluation.step)
            for index, (score, success) in enumerate(zip(evaluation.returns, evaluation.successes, strict=True)):
                number = f"mean of {evaluation.episodes}" if evaluation.is_mean else index
                yield *who, number, _number(score), _number(success)


def _number(value: float) -> str:
    return f"{value:.6g}" if np.isfinite(value) else ""


def write(matched: Matched, stem: Path, words: Callable[..., list[str]]) -> list[Path]:
    """The figure's files: picture, what is drawn, the episodes behind it, and the caption."""
    notes = words(*said(matched))
    picture, groups = draw(matched, notes)
    files = sheet.save(picture, stem)
    files.append(sheet.write_csv(stem, COLUMNS, drawn_rows(groups)))
    files.append(sheet.write_csv(stem, EPISODES, episode_rows(matched.all), "_episodes.csv"))
    return [*files, sheet.write_notes(stem, notes)]


def said(matched: Matched) -> list[str]:
    """What the lines and bands of these runs are, in sentences."""
    runs = matched.all
    seeds = len({run.seed for run in runs})
    lines = [f"white panels: mean and standard deviation over {_episodes(runs)}, of the environment's dense reward"]
    several = max(len(group.tasks) for group in matched.figure.groups) > 1
    middle = "interquartile mean over seeds" + " and tasks, of the lines that have them all" * several
    interval = "95 % interval by a stratified bootstrap over seeds (rliable)"
    lines.append(f"grey panels: {middle}; {interval if seeds > 1 else 'one seed has no interval'}")
    if any(evaluation.is_mean for run in runs for evaluation in run.evaluations):
        lines.append("no deviation where a run kept only the mean of its evaluation episodes")
    apart = _without_common_steps(matched)
    if apart:
        lines.append(f"no mean is drawn where seeds share no evaluation step: {', '.join(apart)}")
    panels = [panel for group in matched.figure.groups for panel in task_panels(matched.figure, group, matched.runs)]
    if any(count for panel in panels for key in KEYS for count in covered_by(panel.curves[key]).values()):
        lines.append("lines that lie on each other are drawn wider, the first widest")
    if matched.figure.printed:
        marks = "triangles, or words where the curves are far below"
        lines.append(f"{marks}: what the paper prints of the end of its curves (section 4.2)")
    return lines


def _episodes(runs: Sequence[Run]) -> str:
    """How many are behind a point: as many as the last evaluation played, and those evaluations that played others."""
    counts = sorted({evaluation.episodes for run in runs for evaluation in run.evaluations[-1:]})
    seeds = len({run.seed for run in runs})
    others: dict[int, set[int]] = {}
    for evaluation in (evaluation for run in runs for evaluation in run.evaluations):
        if evaluation.episodes not in counts:
            others.setdefault(evaluation.episodes, set()).add(evaluation.step)
    where = lambda steps: f"at step {min(steps):,}" if len(steps) == 1 else f"at {len(steps)} other steps"
    fewer = ", ".join(f"{count} {where(steps)}" for count, steps in sorted(others.items()))
    words = f"{' or '.join(map(str, counts))} evaluation episode{'s' * (counts != [1])}"
    words += f" ({fewer})" if fewer else ""
    return words + " of each seed" * (seeds > 1) + ", which alone has no deviation" * (counts == [1] and seeds == 1)


def _without_common_steps(matched: Matched) -> list[str]:
    """Lines that have runs and no step at which all of them were evaluated, with their task, or of all tasks."""
    found = []
    for group in matched.figure.groups:
        for line in group.lines:
            by_task = {task: matched.runs.get((task, line.label), []) for task in group.tasks}
            alone = [task for task, runs in by_task.items() if runs and not common_steps(runs)]
            found += [f"{line.label} on {task.replace('_', ' ')}" for task in alone]
            complete = [run for row in complete_seeds(list(by_task.values())) for run in row]
            if complete and not alone and not common_steps(complete):
                found.append(f"{line.label} over all tasks")
    return found
