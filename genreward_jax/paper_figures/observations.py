"""Figure 4: what the agent sees of each task, beside the goal video of that run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax.figures import style
from genreward_jax.paper_figures import pictures, sheet
from genreward_jax.paper_figures.match import Matched
from genreward_jax.paper_figures.runs import Run
from genreward_jax.video import fit
from genreward_jax.windows import sample_indices

SHOWN = 6  # frames of each goal video
COLUMNS = ("task", "run", "seed", "goal", "frames", "shown", "key_frame", "similarity")


def write(matched: Matched, stem: Path, words: Callable[..., list[str]]) -> list[Path]:
    """A row a task: the first frame of an episode, and the goal video from its start to its end."""
    chosen = [(task, runs[0]) for (task, _), runs in matched.runs.items() if runs]
    notes = words(
        "left: the first frame of an evaluation episode, as the agent sees it",
        "right: the goal video from its first frame to its last, the key frame in orange",
        *(f"{pictures.name(task)}: {pictures.goal(run).source}" for task, run in chosen),
    )
    title = f"Figure {matched.figure.name}: {matched.figure.title}"
    picture, part = sheet.new(1.5 * (SHOWN + 1) + 1.6, 1.75 * len(chosen), title, notes)
    axes = part.subplots(len(chosen), SHOWN + 1, squeeze=False, width_ratios=[1.15, *[1] * SHOWN])
    rows = [_row(axes[number], task, run) for number, (task, run) in enumerate(chosen)]
    files = sheet.save(picture, stem)
    files.append(sheet.write_csv(stem, COLUMNS, rows))
    return [*files, sheet.write_notes(stem, notes)]


def _row(axes: Any, task: str, run: Run) -> tuple:
    goal = pictures.goal(run)
    sheet.picture_on(axes[0], pictures.episode(run)[0], "observation", style.INK, 1.2)
    axes[0].set_ylabel(pictures.name(task), fontsize=10.5, color=style.INK)
    shown = sample_indices(len(goal.video), SHOWN)
    nearest = int(np.abs(shown - goal.key_index).argmin())
    shown[nearest] = goal.key_index  # the key frame is always among them
    for place, index in enumerate(shown):
        frame = fit(goal.video[index : index + 1], min(goal.video.shape[1:3]))[0]
        marked = index == goal.key_index
        colour, width = (style.SECOND, 3) if marked else (style.FAINT, 0.8)
        sheet.picture_on(axes[place + 1], frame, f"{index + 1}", colour, width)
    similarity = f"{goal.similarity[goal.key_index]:.6f}"
    numbers = " ".join(str(index + 1) for index in shown)
    return task, run.path, run.seed, goal.source, len(goal.video), numbers, goal.key_index + 1, similarity
