"""What ``make score`` leaves behind: ``score.json``, ``score.png``, ``score.html``; ``table`` is for the terminal."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax.rundir import write_text
from genreward_jax.score.discrimination import Discrimination, matrix_of
from genreward_jax.score.result import CONTROLS as CONTROLS
from genreward_jax.score.result import Score as Score
from genreward_jax.score.table import table as table


def write(folder: Path, score: Score) -> list[Path]:
    """Writes score.json, score.png and score.html, each whole; gives their paths."""
    from genreward_jax.figures.score import score_picture
    from genreward_jax.score.page import page

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"score.{ending}" for ending in ("json", "png", "html")]
    write_text(paths[0], as_json(score))
    score_picture(paths[1], score)
    write_text(paths[2], page(score, paths[1].read_bytes()))
    return paths


def as_json(score: Score) -> str:
    """``score.json``: what cannot be computed is null; a line for each metric and each episode's reward."""
    parts = {
        "task": score.task,
        "goal": score.goal,
        "command": score.command,
        "seeds": list(map(int, score.seeds)),
        "commit": score.commit,
        "controls": [name for name in score.controls if name in score.values],
        "notes": score.notes,
        "about": score.about,
    }
    lines = [f'  "{name}": {json.dumps(value)}' for name, value in parts.items()]
    lines.append(f'  "rewards": {{{_block(score.figures, lambda figures: _lines(figures, 3), 2)}}}')
    matrices = {name: _matrices(given) for name, given in score.discrimination.items()}
    lines.append(f'  "discrimination": {{{_block(matrices, json.dumps, 2)}}}')
    episodes = ",\n".join("    " + _episode(score, index) for index in range(len(score.trajectories)))
    lines.append(f'  "episodes": [\n{episodes}\n  ]')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _block(entries: dict[str, Any], write: Any, depth: int) -> str:
    """The inside of an object, an entry a line."""
    if not entries:
        return ""
    space = "  " * depth
    inside = f",\n{space}".join(f"{json.dumps(name)}: {write(value)}" for name, value in entries.items())
    return f"\n{space}{inside}\n{'  ' * (depth - 1)}"


def _lines(entries: dict[str, Any], depth: int) -> str:
    return f"{{{_block(entries, json.dumps, depth)}}}"


def _matrices(given: Discrimination) -> dict[str, Any]:
    found = {variant: matrix_of(np.asarray(getattr(given, variant))) for variant in ("as_trained", "every_step")}
    rows = {variant: [numbers(row) for row in matrix] for variant, matrix in found.items()}
    return {"goals": list(given.goals), "tasks": list(given.tasks), **rows}


def _episode(score: Score, index: int) -> str:
    trajectory = score.trajectories[index]
    said = {
        name: {variant: numbers(getattr(values[index], variant)) for variant in ("as_trained", "every_step")}
        for name, values in score.values.items()
    }
    about = {
        "behaviour": trajectory.behaviour,
        "seed": int(trajectory.seed),
        "success_step": int(trajectory.success_step),
        "return": float(np.sum(trajectory.rewards, dtype=np.float64)),
        "values": said,
    }
    return json.dumps(about, separators=(",", ":"))


def numbers(row: np.ndarray) -> list[float | None]:
    """A row of float32 as JSON has it: seven digits, None for what is not finite."""
    return [float(f"{x:.7g}") if np.isfinite(x) else None for x in np.asarray(row, np.float64)]
