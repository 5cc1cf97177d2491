"""Figure 6: the last evaluation's episode of each method, as a strip of film."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from genreward_jax.figures import style
from genreward_jax.paper_figures import pictures, sheet
from genreward_jax.paper_figures.match import Matched
from genreward_jax.paper_figures.runs import Run
from genreward_jax.windows import sample_indices

SHOWN = 8
COLUMNS = ("task", "line", "run", "seed", "step", "frames", "shown", "return", "success")


def write(matched: Matched, stem: Path, words: Callable[..., list[str]]) -> list[Path]:
    """A row a method: frames of one episode from its start to its end, and what it earned."""
    cells = [(task, line) for task, line in matched.figure.cells]
    notes = words(
        "the first episode of the last evaluation, or of the latest make eval where the run filmed none, its frames "
        "evenly spread from the reset to the end; below the name: that episode's return of the dense reward, where it "
        "is known"
    )
    title = f"Figure {matched.figure.name}: {matched.figure.title}"
    picture, part = sheet.new(1.32 * SHOWN + 1.9, 1.42 * len(cells) + 0.25, title, notes)
    axes = part.subplots(len(cells), SHOWN, squeeze=False)
    rows = []
    for number, (task, line) in enumerate(cells):
        runs = matched.runs[task, line.label]
        several = len({task for task, _ in cells}) > 1
        label = f"{pictures.name(task)}\n{line.label}" if several else line.label
        rows.append((task, line.label, *_row(axes[number], label, runs[0] if runs else None, number == 0)))
    files = sheet.save(picture, stem)
    files.append(sheet.write_csv(stem, COLUMNS, rows))
    return [*files, sheet.write_notes(stem, notes)]


def _row(axes: Any, label: str, run: Run | None, first: bool) -> tuple:
    if run is None or pictures.episode_file(run) is None:
        return _nothing(axes, label, run)
    frames = pictures.episode(run)
    shown = sample_indices(len(frames), SHOWN)
    for place, index in enumerate(shown):
        sheet.picture_on(axes[place], frames[index], f"step {index}" if first else "")
    known = pictures.earned(run)
    said = "" if known.score is None else f"\n{known.score:,.0f}{', success' * (known.success == 1)}"
    axes[0].set_ylabel(f"{label}{said}", fontsize=10, color=style.INK)
    step = "" if known.step is None else known.step
    earned = ["" if value is None else f"{value:.6g}" for value in (known.score, known.success)]
    return run.path, run.seed, step, len(frames), " ".join(map(str, shown)), *earned


def _nothing(axes: Any, label: str, run: Run | None) -> tuple:
    """An empty row that says why it is empty."""
    for place, each in enumerate(axes):
        each.set_xticks([])
        each.set_yticks([])
        each.set_box_aspect(1)
        each.spines[:].set_color("#e6e9ed" if place == 0 else "none")
    axes[0].set_ylabel(label, fontsize=10, color=style.FAINT)
    why = "no run" if run is None else "no video"
    axes[0].text(0.5, 0.5, why, transform=axes[0].transAxes, ha="center", va="center", color=style.QUIET)
    return ("", "", "", "", "", "", "") if run is None else (run.path, run.seed, "", "", "", "", "")
