"""Figure 3: what a run's forward-backward networks think of the actions in one state."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from genreward_jax.errors import UserError
from genreward_jax.figures import fb_actions
from genreward_jax.methods import load_method
from genreward_jax.paper_figures import sheet
from genreward_jax.paper_figures.match import Matched
from genreward_jax.paper_figures.runs import Run
from genreward_jax.score.trajectories import Trajectory

COLUMNS = ("line", "run", "step_of_episode", "first", "second", "first_value", "second_value", "f_dot_b")


def write(matched: Matched, stem: Path, words: Callable[..., list[str]]) -> list[Path]:
    """A picture a line, in the same state: a scripted expert's, a third of the way to its first success."""
    files, rows, notes = [], [], words()
    there = [(label, runs[0]) for (_, label), runs in matched.runs.items() if runs]
    for label, run in there:
        here = (
            stem if len(matched.runs) == 1 else stem.with_name(f"{stem.name}_{re.sub(r'[^-.0-9A-Za-z]', '_', label)}")
        )
        made, values = _of_run(here, matched, label, run, notes)
        files += made
        rows += values
    files.append(sheet.write_csv(stem, COLUMNS, rows))
    return [*files, sheet.write_notes(stem, notes)]


def _of_run(stem: Path, matched: Matched, label: str, run: Run, notes: list[str]) -> tuple[list[Path], list[tuple]]:
    from genreward_jax.envs.rendering import resolve_quality
    from genreward_jax.parts import uses_fb
    from genreward_jax.rundir import run_config
    from genreward_jax.score.actions import moment
    from genreward_jax.score.context import Context
    from genreward_jax.score.forward_backward import RunNetworks
    from genreward_jax.score.trajectories import make_set

    config = run_config(str(run.path))
    config = config.update({"env.metaworld.quality": resolve_quality(config.env.metaworld.quality)})
    if not uses_fb(load_method(config.method, dict(config.reward))):
        raise UserError(f"Figure {matched.figure.name}: {run.path} ({config.method}) has no forward-backward networks.")
    context = Context(config, str(run.path))
    try:
        trajectory, step = moment(make_set(config, 1, behaviours=("expert",)))
        networks = RunNetworks(context)
        values = networks.at(trajectory, step)
        if values is None:
            raise UserError(
                f"Figure {matched.figure.name}: F of {run.path} sees the world model's state (--fb.forward_state "
                "deter) and not a frame: there is no picture of it."
            )
        files = _pictures(stem, matched, label, run, (trajectory, step, values, context.goal().key_frame), notes)
        return files, list(_rows(label, run, trajectory, step, values))
    finally:
        context.close()


def _pictures(stem: Path, matched: Matched, label: str, run: Run, shown: tuple, notes: list[str]) -> list[Path]:
    trajectory, step, values, key_frame = shown
    files = sheet.beside(stem, ".png", ".pdf")
    told = f"expert of seed {trajectory.seed}, step {step} of {trajectory.length}; objective {run.flat['fb.objective']}"
    for file in files:
        fb_actions.actions_picture(
            file,
            values,
            trajectory.actions[step],
            frames=[(f"the state: step {step}", trajectory.frames[step]), ("the goal's key frame", key_frame)],
            title=f"Figure {matched.figure.name}: {matched.figure.title}: {label}, {run.task.replace('_', ' ')}",
            note="\n".join([told, " ".join(notes)]),
        )
    return files


def _rows(label: str, run: Run, trajectory: Trajectory, step: int, values: fb_actions.Values):
    action = trajectory.actions[step]
    line = np.linspace(-1, 1, fb_actions.RESOLUTION)
    for pair in fb_actions.pairs_of(len(action)):
        names = [fb_actions.NAMES[i] for i in pair]
        grid = fb_actions.over_actions(values, pair, action)
        for row, column in np.ndindex(grid.shape):
            where = (f"{line[column]:.4f}", f"{line[row]:.4f}")
            yield label, run.path, step, *names, *where, f"{grid[row, column]:.6g}"
