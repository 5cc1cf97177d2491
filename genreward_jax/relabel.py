"""Another goal, alpha or beta for episodes that were played already: a run directory made anew from an old one.

What each row keeps (``reward_env``, ``reward_<name>``) is summed again; a reward whose goal, model or settings change
is asked again, through training's own shaper and bridge, with the frames that are there.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import elements
import numpy as np

from genreward_jax import frame_states, parts, replay_files
from genreward_jax.cache import make_once
from genreward_jax.checkpoint import Checkpoint
from genreward_jax.config import differences
from genreward_jax.errors import UserError
from genreward_jax.methods import Term, load_method
from genreward_jax.relabel_rows import Recomputed, Tally, recompute, sum_again
from genreward_jax.rundir import RunDirectory, write_json

MAY_CHANGE = ("logdir", "method", "reward", "goal", "model", "bridge")
GOAL = ("goal", "model")  # flags that make another goal, or show it and the windows to other models
FB_PARAMETERS = ("fb/", "fbenc/")


@dataclass
class Plan:
    """What becomes of each reward.

    Attributes:
        terms: The new method's summands.
        kept: Names whose values stay as the rows have them.
        recomputed: Terms that are asked again.
        dropped: Names that the new method does not have.
        changed: Lines 'flag: old -> new'.
    """

    terms: list[Term]
    kept: list[str]
    recomputed: list[Term]
    dropped: list[str]
    changed: list[str]


def plan(old: elements.Config, new: elements.Config) -> Plan:
    """Compares two configurations.

    Raises:
        UserError: Nothing changes, something else than rewards changes, or a reward cannot be computed again.
    """
    changed = differences(old.flat, new.flat, ignore=("logdir", "bridge"))
    others = differences(old.flat, new.flat, ignore=MAY_CHANGE)
    if others:
        raise UserError(f"Relabelling changes rewards and goals, nothing else; leave out:\n  {chr(10).join(others)}")
    if not changed:
        raise UserError("Nothing changes: name another goal (GOAL=), METHOD=, or weights (FLAGS='--reward.alpha 0.1').")
    before = {term.name: term for term in load_method(old.method, dict(old.reward))}
    terms = parts.check(new)
    elsewhere = any(line.startswith(GOAL) for line in changed)
    kept, recomputed = [], []
    for term in terms:
        was = before.get(term.name)
        same = was is not None and (was.path, was.settings) == (term.path, term.settings)
        if same and not elsewhere:
            kept.append(term.name)
        elif term.reward_class().outputs:
            reason = "the run's method did not have it" if was is None else "it belongs to the goal and settings it had"
            raise UserError(
                f"The reward '{term.name}' comes from the agent's own networks as they were at each step, and "
                f"{reason}: it cannot be computed again. Leave it out (METHOD=genreward_no_fb, say), or keep goal, "
                f"models and interval as they are."
            )
        else:
            recomputed.append(term)
    dropped = [name for name in before if name not in {term.name for term in terms}]
    return Plan(terms, kept, recomputed, dropped, changed)


def relabel(
    run: str, out: str, old: elements.Config, new: elements.Config, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Makes the run directory ``out`` from the one at ``run``, which stays as it is; ``out`` appears whole.

    The agent's checkpoint is taken along (without FB where the new method has none): it goes on with rows that pay
    differently. Rows of an episode whose beginning has left the replay get no recomputed reward, like an episode's
    last, shorter window.

    Args:
        run: A run directory that no process uses.
        out: A folder that is not there yet, or is empty.
        old, new: The run's configuration, and the one wanted.
        say: Told what takes a while.

    Returns:
        What was done, as ``relabel.json`` in the new directory keeps it.

    Raises:
        UserError: As :func:`plan`; no checkpoint, ``out`` in the way, frames missing that a model wants.
    """
    wanted, source, target = plan(old, new), Path(run), Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"OUT={out} is there already; name a new folder.")
    with _unused(source):
        checkpoint = Checkpoint(source / "checkpoint", None, None).latest()
        if checkpoint is None:
            raise UserError(f"The run in '{run}' has saved no checkpoint yet; there is nothing to relabel.")
        names = json.loads((checkpoint / "state.json").read_text())["replay"]
        missing = [name for name in names if not (source / "replay" / name).is_file()]
        if missing or not names:
            raise UserError(
                f"The replay of '{run}' lacks {missing[0] if missing else 'rows'}; nothing can be relabelled."
            )
        if target.is_dir():
            target.rmdir()
        make_once(target, lambda made: _fill(made, source, checkpoint, names, new, wanted, say))
    return json.loads((target / "relabel.json").read_text())


@contextlib.contextmanager
def _unused(run: Path) -> Iterator[None]:
    """Holds a run's lock as a reader, so that nobody trains it meanwhile."""
    if not (run / "run.lock").exists():
        yield
        return
    with (run / "run.lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            owner = lock.read().strip() or "unknown"
            raise UserError(f"{run} is in use by process {owner}; wait for it or stop it.") from None
        yield


def _fill(
    made: Path, run: Path, checkpoint: Path, names: list[str], config: elements.Config, wanted: Plan, say: Callable
) -> None:
    """Everything that the new directory holds."""
    _copy(run, made)
    files = [run / "replay" / name for name in names]
    again = recompute(config, wanted.recomputed, run, made, files, say) if wanted.recomputed else Recomputed()
    dino, tally = bool(parts.dino_every(config, wanted.terms)), Tally()
    (made / "replay").mkdir()
    for file in files:
        columns = replay_files.read(file)
        if not dino:  # rows of a run without FB hold no embeddings, and all rows of a replay hold the same
            columns = {key: value for key, value in columns.items() if key not in frame_states.KEYS}
        summed = sum_again(columns, wanted.terms, again.values.get(replay_files.chunk_id(file), {}))
        replay_files.write(made / "replay" / file.name, summed)
        tally.add(columns, summed)
    facts = tally.facts()
    paid = sum(facts["rewards"][term.name]["paid"][1] for term in wanted.terms)
    _copy_checkpoint(checkpoint, made / "checkpoint", wanted, again.memory, paid)
    RunDirectory(str(made)).keep_config(config)
    known = {"from": str(run.resolve()), "changed": wanted.changed, "kept": wanted.kept, "dropped": wanted.dropped}
    known |= {"recomputed": [term.name for term in wanted.recomputed], "without_beginning": again.without_beginning}
    write_json(made / "relabel.json", {**known, **facts})


def _copy(run: Path, made: Path) -> None:
    """The goal, the returns of the past, and the kept frames, which are never written again and so can be shared."""
    if (run / "goal").is_dir():
        shutil.copytree(run / "goal", made / "goal")
    if (run / "scores.jsonl").is_file():
        shutil.copy2(run / "scores.jsonl", made / "scores.jsonl")
    if (run / "reward_frames").is_dir():
        shutil.copytree(run / "reward_frames", made / "reward_frames", copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)


def _copy_checkpoint(found: Path, target: Path, wanted: Plan, memory: dict[str, Any], paid: int) -> None:
    """The agent and the counters as they were; the shaper's state as it would be now."""
    from safetensors.numpy import load_file, save_file

    from dreamerv3_patches.checkpoint import drop_parameters

    shutil.copytree(found, target / found.name)
    shaper = target / found.name / "shaper.safetensors"
    was = load_file(shaper) if shaper.is_file() else {}
    kept = {key: value for key, value in was.items() if key.split("/")[0] in wanted.kept}
    save_file({**kept, **memory, "paid": np.asarray(paid)}, shaper)
    if not parts.uses_fb(wanted.terms):
        drop_parameters(target / found.name, FB_PARAMETERS)
    (target / "latest").write_text(found.name)
