"""Figures 8 and A: which frame of the goal video is the goal, and what taking the second best one does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from genreward_jax.figures import style
from genreward_jax.figures.goal import goal_picture
from genreward_jax.goals import Goal, ranked
from genreward_jax.paper_figures import curves, pictures, sheet
from genreward_jax.paper_figures.match import Matched

COLUMNS = ("run", "frame", "similarity", "rank", "chosen")


def write(matched: Matched, stem: Path, words: Callable[..., list[str]]) -> list[Path]:
    """The goal of a run in one picture, or the two goals beside their learning curves."""
    return (_second_best if matched.figure.kind == "second_best" else _key_frame)(matched, stem, words)


def _key_frame(matched: Matched, stem: Path, words: Callable[..., list[str]]) -> list[Path]:
    run = matched.all[0]
    goal = pictures.goal(run)
    notes = words(f"goal of {run.task.replace('_', ' ')}: {goal.source}")
    heading = f"Figure {matched.figure.name}: {matched.figure.title}"
    files = sheet.beside(stem, ".png", ".pdf")
    for file in files:
        what = goal.video, goal.similarity, goal.key_index, goal.source, goal.prompts
        goal_picture(file, *what, note=" ".join(notes), heading=heading)
    files.append(sheet.write_csv(stem, COLUMNS, _rows(run.path, goal)))
    return [*files, sheet.write_notes(stem, notes)]


def _rows(path: Path, goal: Goal) -> list[tuple]:
    order = {ranked(goal.similarity, rank): rank for rank in range(1, len(goal.similarity) + 1)}
    return [
        (path, index + 1, f"{value:.6f}", order[index], int(index == goal.key_index))
        for index, value in enumerate(goal.similarity)
    ]


def goals_of(matched: Matched) -> dict[str, tuple[Path, Goal]]:
    """Label to the folder and the goal of each line that has one, in the figure's order."""
    found = {}
    for (_, label), runs in matched.runs.items():
        rank = dict(next(line.flags for _, line in matched.figure.cells if line.label == label)).get("goal.rank")
        if runs and rank is not None:
            found[label] = runs[0].path, pictures.goal(runs[0])
    return found


def _second_best(matched: Matched, stem: Path, words: Callable[..., list[str]]) -> list[Path]:
    goals = goals_of(matched)
    sources = dict.fromkeys(goal.source for _, goal in goals.values())
    notes = words(f"goal: {'; '.join(sources)}" if sources else "", *curves.said(matched))
    figure, group = matched.figure, matched.figure.groups[0]
    panels = curves.panels_of(figure, group, matched.runs)
    picture, part = sheet.new(12.6, 5.9, f"Figure {figure.name}: {figure.title}", notes)
    left, right = part.subfigures(1, 2, width_ratios=(1, 1.12))
    _frames(left, goals, curves.colours(group, matched.preset))
    curves.draw_group(right, group, panels, matched.preset)
    files = sheet.save(picture, stem)
    files.append(sheet.write_csv(stem, curves.COLUMNS, curves.drawn_rows([(group, panels)])))
    files.append(sheet.write_csv(stem, curves.EPISODES, curves.episode_rows(matched.all), "_episodes.csv"))
    frames = [row for path, goal in goals.values() for row in _rows(path, goal)]
    files.append(sheet.write_csv(stem, COLUMNS, frames, "_frames.csv"))
    return [*files, sheet.write_notes(stem, notes)]


def _frames(part: Any, goals: dict[str, tuple[Path, Goal]], colours: dict[str, str]) -> None:
    """The goal frames side by side, and below them the curve that ranked them."""
    if not goals:
        part.text(0.5, 0.5, "no run with a goal", ha="center", color=style.FAINT)
        return
    above, below = part.subfigures(2, 1, height_ratios=(1.5, 1))
    axes = above.subplots(1, len(goals), squeeze=False)[0]
    curve = below.subplots()
    style.tidy(curve)
    for place, (label, (_, goal)) in enumerate(goals.items()):
        colour, index = colours[label], goal.key_index
        words = f"{label}: {index + 1} of {len(goal.similarity)}\nsimilarity {goal.similarity[index]:.4f}"
        sheet.picture_on(axes[place], goal.key_frame, words, colour, 3)
        if not place:
            curve.plot(range(1, len(goal.similarity) + 1), goal.similarity, color=style.QUIET, linewidth=1.6)
        curve.plot(index + 1, goal.similarity[index], "o", color=colour, markersize=9, clip_on=False)
    curve.set_xlabel("frame", fontsize=10)
    curve.set_title("similarity to the text", fontsize=11, loc="left", color=style.INK)
    curve.locator_params(axis="x", integer=True)
