"""What stands below a figure: seeds, steps, hardware, commit, and what a reader must not overlook."""

from collections.abc import Sequence

from genreward_jax import provenance
from genreward_jax.config import read_yaml
from genreward_jax.paper_figures.match import Matched, changes
from genreward_jax.paper_figures.plan import Plan
from genreward_jax.paper_figures.read_flags import own_models
from genreward_jax.paper_figures.runs import Run
from torch_bridge.families import SHIPPED


def caption(plan: Plan, matched: Matched, *more: str) -> list[str]:
    """Sentences: how large, on what, what is missing, what is special about these runs.

    Args:
        plan: Says what to say of the preset.
        matched: The figure's runs.
        more: What the figure's own kind has to say, after the size.
    """
    runs, figure = matched.all, matched.figure
    if not runs:
        return [*more, f"drawn at commit {provenance.commit() or 'unknown'}"]
    lines = [size(runs, matched.preset), str(plan.presets[matched.preset].get("says", "")), *more, figure.note]
    lines += [_missing(matched), figure.asks, _unfinished(runs), _other_settings(runs, figure.varied), *matched.notes]
    lines += [_stand_ins(runs), where(runs)]
    return [line[0].upper() + line[1:].rstrip(".") + "." for line in lines if line]


def size(runs: Sequence[Run], preset: str) -> str:
    """Seeds, steps and preset in words."""
    seeds = len({run.seed for run in runs})
    steps = [run.evaluations[-1].step for run in runs if run.evaluations]
    text = f"preset {preset}, {seeds} seed{'s' * (seeds != 1)}"
    return f"{text}, {_range(steps)} environment steps" if steps else text


def where(runs: Sequence[Run]) -> str:
    """Hardware and commits of the runs, and the commit that draws."""
    starts = [start for run in runs for start in run.starts]
    machines = dict.fromkeys(" and ".join(filter(None, (start["gpu"], start["machine"]))) for start in starts)
    commits = dict.fromkeys(start["commit"] or "unknown" for start in starts)
    older = [run for run in runs if not run.starts]
    text = f"trained on {'; '.join(machines)}, commit {', '.join(commits)}" if starts else "hardware and commit unknown"
    if starts and older:
        text += f" ({len(older)} runs do not say)"
    return f"{text}; drawn at commit {provenance.commit() or 'unknown'}"


def _stand_ins(runs: Sequence[Run]) -> str:
    """What is in the place of the papers' models, each sentence once: `stands_in` of the methods that are drawn."""
    methods, said = read_yaml("methods"), {}
    for run in runs:
        sentence = (methods.get(run.method) or {}).get("stands_in", "")
        named = any(run.flat[flag] for flag in own_models(run.method))
        if sentence and run.flat["model.family"] in SHIPPED and not named:
            said[sentence] = None
    return f"not the papers' models: {'; '.join(said)}" if said else ""


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{high:,}" if low == high else f"{low:,} to {high:,}"


def _missing(matched: Matched) -> str:
    if not matched.missing:
        return ""
    by_line: dict[str, int] = {}
    for wanted in matched.missing:
        by_line[wanted.line.label] = by_line.get(wanted.line.label, 0) + 1
    said = ", ".join(f"{count} of {label}" for label, count in by_line.items())
    return (
        f"{len(matched.missing)} run{'s' * (len(matched.missing) != 1)} missing and nothing put in their place ({said})"
    )


def _unfinished(runs: Sequence[Run]) -> str:
    count = sum(not run.finished for run in runs)
    return f"{count} of {len(runs)} runs unfinished" if count else ""


def _other_settings(runs: Sequence[Run], varied: Sequence[str]) -> str:
    """Flags that the runs set otherwise than their preset and method."""
    found = {
        flag: f"{flag} {value} (the preset has {usual})"
        for run in runs
        for flag, value, usual in changes(run)
        if flag not in varied
    }
    return f"not the preset's: {', '.join(found.values())}" if found else ""
