"""Training what a figure misses, by the sweep that `make sweep` uses."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genreward_jax.paper_figures import runs
from genreward_jax.paper_figures.match import match
from genreward_jax.paper_figures.plan import WITHOUT_RUNS, Plan

if TYPE_CHECKING:
    from genreward_jax.sweep.plan import Job


def jobs(plan: Plan, names: Sequence[str], folder: Path, preset: str) -> tuple[list["Job"], list[str]]:
    """What has to be trained before these figures have all their runs.

    Args:
        plan: Of all figures.
        names: Of the figures.
        folder: Where runs are looked for and go to.
        preset: Their size.

    Returns:
        The missing runs and those under their own name that are unfinished, each once; and a sentence for each
        unfinished run that lies elsewhere, which only its own command can go on with.

    Raises:
        UserError: As :func:`match.match`; an unknown method.
    """
    found = runs.find(folder) if folder.exists() else []
    needed: dict[str, Job] = {}
    said: dict[str, None] = {}
    for name in names:
        figure = plan.figure(name)
        if figure.kind in WITHOUT_RUNS:
            continue
        matched = match(plan, figure, found, preset)
        missing = {(wanted.task, wanted.line, wanted.seed) for wanted in matched.missing}
        unfinished = {run.path for run in matched.all if not run.finished}
        for wanted in plan.wanted(figure, preset):
            job = wanted.job(preset)
            if (wanted.task, wanted.line, wanted.seed) in missing or folder / job.name in unfinished:
                needed.setdefault(job.name, job)
                unfinished.discard(folder / job.name)
        said |= dict.fromkeys(
            f"{path} is unfinished: make train LOGDIR={path} with its own settings goes on"
            for path in sorted(unfinished)
        )
    return list(needed.values()), list(said)


Runner = Callable[[list["Job"], Path], dict[str, str]]


def make_up(
    plan: Plan, names: Sequence[str], folder: Path, preset: str, runner: Runner, say: Callable[[str], None] = print
) -> dict[str, str]:
    """Trains what is missing; gives each run's outcome, as :func:`genreward_jax.sweep.run.run_jobs` does."""
    needed, elsewhere = jobs(plan, names, folder, preset)
    for sentence in elsewhere:
        say(sentence)
    which = f"Figure{'s' * (len(names) > 1)} {', '.join(names)}"
    if not needed:
        say(f"{which}: every run is there.")
        return {}
    say(f"{which}: {len(needed)} run{'s' * (len(needed) != 1)} to train at preset {preset}, into {folder}.")
    return runner(needed, folder)
