"""Which run is which line of a figure, which are missing, and which do not go together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from genreward_jax.config import method_flags
from genreward_jax.errors import UserError
from genreward_jax.paper_figures.plan import Figure, Plan, Wanted, base_config, settings, usual_preset
from genreward_jax.paper_figures.read_flags import reads
from genreward_jax.paper_figures.runs import Run
from genreward_jax.rundir import MAY_CHANGE

Cell = tuple[str, str]  # (task, label)

# What every cell says itself, and what a run has of the machine or the moment.
OWN = ("task", "method", "seed", "env.metaworld.reward")
GOAL = ("goal.source", "goal.image")  # a run goes on with the same goal under another name; a comparison does not
OF_A_GOAL = ("goal.", "model.", "fb.", "reward.frames")  # what the content key of a run's goal is made of, beside files


@dataclass
class Matched:
    """A figure's runs.

    Attributes:
        runs: (task, label) to the runs there are, by seed; two labels may name the same training.
        missing: The runs that are not there.
        preset: That the runs have, and that the missing ones would be made with.
        notes: Sentences that a reader must know.
    """

    figure: Figure
    preset: str
    runs: dict[Cell, list[Run]]
    missing: list[Wanted]
    notes: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[Run]:
        """Every run of the figure once."""
        return list({run.path: run for runs in self.runs.values() for run in runs}.values())


def match(plan: Plan, figure: Figure, found: Sequence[Run], preset: str = "") -> Matched:
    """Gives each line of a figure its runs.

    Args:
        plan: Of all figures: a run that another figure asks for, with another alpha say, is not held against this one.
        figure: The one to be drawn.
        found: Runs; those that are no line of the figure are left aside.
        preset: Only runs with this one; '' takes all, which must then have the same.

    Raises:
        UserError: Two runs disagree in a flag that the figure does not vary or in what their goal file held, or are the
            same training.
    """
    found = [run for run in found if not preset or run.flat["preset"] == preset]
    candidates = {_key(task, line.label): _candidates(figure, task, line, found) for task, line in figure.cells}
    everyone = [run for runs in candidates.values() for run in runs]
    _agree_on(figure, everyone, "preset", lambda run: run.flat["preset"])
    used = preset or (everyone[0].flat["preset"] if everyone else usual_preset(plan))
    if used not in plan.presets:
        raise UserError(f"Figure {figure.name}: {plan.file} says nothing of the preset '{used}', which its runs have.")
    left: dict[str, list[Run]] = {}
    chosen = {cell: _own(plan, figure, runs, used, left) for cell, runs in candidates.items()}
    count = lambda runs: len({run.path for run in runs})
    notes = [f"left to {why}: {count(runs)} run{'s' * (count(runs) != 1)}" for why, runs in left.items()]
    matched = Matched(figure, used, chosen, [], notes)
    _check_once(figure, chosen)
    _check_agreement(figure, matched.all)
    _check_goal_files(figure, matched.all)
    there = {(task, settings(line, used), run.seed) for task, line in figure.cells for run in chosen[task, line.label]}
    wanted = plan.wanted(figure, used)
    matched.missing = [w for w in wanted if (w.task, settings(w.line, used), w.seed) not in there]
    return matched


def _key(task: str, label: str) -> Cell:
    return task, label


def _candidates(figure: Figure, task: str, line: Any, found: Sequence[Run]) -> list[Run]:
    """Runs of the line's task, method and reward that have its value of each flag that the figure varies."""
    chosen = []
    for run in found:
        if (run.task, run.method, run.env_reward) != (task, line.method, line.env_reward):
            continue
        given = dict(line.flags)
        base = base_config(line.method, run.flat["preset"]) if figure.varied else {}
        if all(run.flat[flag] == given.get(flag, base.get(flag)) for flag in figure.varied if reads(run.method, flag)):
            chosen.append(run)
    return chosen


def _own(plan: Plan, figure: Figure, runs: list[Run], preset: str, left: dict[str, list[Run]]) -> list[Run]:
    """Without those that only another figure asks for, as they vary a flag that this one does not; these go to left."""
    kept = []
    for run in runs:
        base = base_config(run.method, preset)
        flags = {flag for other in plan.figures.values() for flag in other.varied} - set(figure.varied)
        off = {flag for flag in flags if run.flat[flag] != base[flag] and reads(run.method, flag)}
        others = [other for other in plan.figures.values() if off & set(other.varied) and _asks_for(other, run)]
        if others:
            left.setdefault(f"Figure {others[0].name}, which varies {', '.join(sorted(off))}", []).append(run)
        else:
            kept.append(run)
    return kept


def _asks_for(figure: Figure, run: Run) -> bool:
    return any(run in _candidates(figure, task, line, [run]) for task, line in figure.cells)


def _check_once(figure: Figure, chosen: dict[Cell, list[Run]]) -> None:
    for runs in chosen.values():
        seen: dict[int, Run] = {}
        for run in runs:
            if (other := seen.setdefault(run.seed, run)) is not run:
                differ = _differing(figure, other, run)
                why = f"disagree in {differ}, which it does not vary" if differ else "are the same training"
                raise UserError(f"Figure {figure.name}: {other.path} and {run.path} {why}: take one of them away.")


def _check_agreement(figure: Figure, runs: list[Run]) -> None:
    """Every run with the first of each method: the first of all may look at none of what two later methods read."""
    first: dict[str, Run] = {}
    for run in runs:
        first.setdefault(run.method, run)
        for other in first.values():
            differ = _differing(figure, other, run)
            if differ:
                raise UserError(
                    f"Figure {figure.name}: {other.path} and {run.path} disagree in {differ}, which the figure does "
                    "not vary: take one of them away, or name a folder with runs that go together (RUNS=)."
                )


def _check_goal_files(figure: Figure, runs: list[Run]) -> None:
    """Runs that name the same goal file must have seen the same in it, which their flags alone do not say."""
    first: dict[tuple, Run] = {}
    for run in runs:
        if not run.goal_digest or run.flat["goal.source"] in ("generated", "expert"):
            continue  # such goals follow from the flags, an expert's from the seed too
        settings_of_goal = [value for flag, value in run.flat.items() if flag.startswith(OF_A_GOAL)]
        other = first.setdefault((run.task, run.method, *settings_of_goal), run)
        if other.goal_digest != run.goal_digest:
            raise UserError(
                f"Figure {figure.name}: {other.path} and {run.path} both name the goal {run.flat['goal.source']}, but "
                f"its content or the models were others (goal/goal.json: {other.goal_digest[:12]} and "
                f"{run.goal_digest[:12]}): take one of them away."
            )


def _differing(figure: Figure, one: Run, two: Run) -> str:
    """The flags in which two runs differ and may not, with both values; '' for none."""
    ignored = {*OWN, *figure.varied}
    if one.method != two.method:
        ignored |= method_flags(one.method).keys() | method_flags(two.method).keys()
    lines = []
    for flag, value in one.flat.items():
        if flag in ignored or _may_change(flag):
            continue
        if not (reads(one.method, flag) and reads(two.method, flag)):
            continue
        if _plain(value) != _plain(two.flat[flag]):
            lines.append(f"{flag} ({_plain(value)} and {_plain(two.flat[flag])})")
    return ", ".join(lines[:3]) + (f" and {len(lines) - 3} more" if len(lines) > 3 else "")


def _agree_on(figure: Figure, runs: list[Run], name: str, value: Callable[[Run], Any]) -> None:
    for run in runs[1:]:
        if value(run) != value(runs[0]):
            raise UserError(
                f"Figure {figure.name}: {runs[0].path} and {run.path} disagree in {name} ({value(runs[0])} and "
                f"{value(run)}), which the figure does not vary: choose one by {name.upper()}=, or a folder by RUNS=."
            )


def changes(run: Run) -> list[tuple[str, Any, Any]]:
    """(flag, the run's value, the preset's) of what a run sets otherwise than its preset and method, and looks at."""
    try:
        base = base_config(run.method, run.flat["preset"])
    except UserError:  # a preset that there is no more
        return []
    own = {*OWN, "preset", "env.metaworld.quality"}  # the last is settled by the machine
    found = []
    for flag, value in run.flat.items():
        if flag in own or _may_change(flag) or flag not in base or not reads(run.method, flag):
            continue
        if _plain(value) != _plain(base[flag]):
            found.append((flag, _plain(value), _plain(base[flag])))
    return found


def _may_change(flag: str) -> bool:
    """Whether a run may be continued with another value of it and is still the same in a comparison."""
    return flag not in GOAL and any(flag == name or flag.startswith(f"{name}.") for name in MAY_CHANGE)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
