"""Run directories under a folder, found by their config.yaml whatever they are called, and what they scored."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax import config as config_lib
from genreward_jax import provenance
from genreward_jax.errors import UserError
from genreward_jax.loggers import read_scores


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a run.

    Attributes:
        step: Environment steps it was trained for, at the round number that was aimed at.
        returns: (episodes,) of the environment's dense reward; one number, the mean, where a run kept no more.
        successes: (episodes,) 1 or 0, NaN where the environment does not say; the same.
        episodes: How many it played.
    """

    step: int
    returns: np.ndarray
    successes: np.ndarray
    episodes: int

    @property
    def is_mean(self) -> bool:
        """Whether a run older than `eval/each_score` kept only the mean of several episodes."""
        return len(self.returns) < self.episodes


@dataclass(frozen=True, eq=False)
class Run:
    """A run directory.

    Attributes:
        path: The folder.
        flat: Every flag by full name; flags younger than the run have their defaults.
    """

    path: Path
    flat: Mapping[str, Any]

    @property
    def task(self) -> str:
        """Underscore name, without Meta-World's prefix."""
        return self.flat["task"].removeprefix("metaworld_")

    @property
    def method(self) -> str:
        return self.flat["method"]

    @property
    def seed(self) -> int:
        return int(self.flat["seed"])

    @property
    def env_reward(self) -> str:
        return self.flat[f"env.{self.flat['task'].split('_', 1)[0]}.reward"]

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        """All of them, by step; of two at the same step the later one."""
        try:
            rows = [row for row in read_scores(self.path) if row.get("eval/score") is not None]
            found = {self._nominal(int(row["step"])): row for row in rows}
            return [_evaluation(step, row) for step, row in sorted(found.items())]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.path / 'scores.jsonl'} is damaged ({error}): mend it, or take the run away."
            ) from None

    @property
    def finished(self) -> bool:
        """Whether it was evaluated at its last step."""
        return bool(self.evaluations) and self.evaluations[-1].step >= self.flat["run.steps"]

    @cached_property
    def starts(self) -> list[dict[str, str]]:
        """What each of its starts ran on, as :mod:`provenance` keeps it; none for an older run."""
        return provenance.read(self.path)

    @cached_property
    def goal_digest(self) -> str:
        """The content key of its goal; '' for a run that keeps none."""
        try:
            return str(json.loads((self.path / "goal" / "goal.json").read_text())["digest"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def scored(self) -> "Run":
        """Itself.

        Raises:
            UserError: It has no evaluation yet.
        """
        if not self.evaluations:
            raise UserError(
                f"The run in '{self.path}' has no scores (no evaluation in scores.jsonl): let it train until its first "
                "evaluation, or take the folder away."
            )
        return self

    def _nominal(self, step: int) -> int:
        """Several environments step together, so an evaluation may be some steps late."""
        every = int(self.flat["eval.every"])
        aimed = step // every * every if every > 0 else step
        return aimed if step - aimed < int(self.flat["run.envs"]) else step


def _evaluation(step: int, row: Mapping[str, Any]) -> Evaluation:
    def values(name: str) -> np.ndarray:
        kept = row.get(f"eval/each_{name}") or [row.get(f"eval/{name}")]
        return np.array([np.nan if value is None else value for value in kept], np.float64)

    return Evaluation(step, values("score"), values("success"), int(row.get("eval/episodes") or 1))


def folder_of(text: str) -> Path:
    """A folder as the user names it.

    Raises:
        UserError: It is a URL.
    """
    if "://" in text:
        raise UserError(f"Runs are read from a folder of this machine, not from '{text}': copy or mount it first.")
    return Path(text).expanduser()


def existing(folder: str | Path) -> Path:
    """The folder.

    Raises:
        UserError: There is none.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError(f"There is no folder '{folder}' with run directories; name one by RUNS= (--runs).")
    return folder


def find(folder: str | Path) -> list[Run]:
    """All runs in a folder, itself or below it, in the order of their paths.

    Raises:
        UserError: There is no such folder, or a run's config.yaml cannot be read.
    """
    folder = existing(folder)
    defaults = _defaults()
    runs = []
    for place, folders, files in os.walk(folder):
        folders.sort()
        if "config.yaml" not in files:
            continue
        saved = _saved(Path(place) / "config.yaml")
        if saved is not None:
            flat = {key: saved.get(key, value) for key, value in defaults.items()}
            runs.append(Run(Path(place), flat))
            folders.clear()  # nothing in a run is a run
    return sorted(runs, key=lambda run: run.path)


def _defaults() -> dict[str, Any]:
    import elements

    return dict(elements.Config(config_lib.read_yaml("defaults")).flat)


def _saved(file: Path) -> dict[str, Any] | None:
    """The flags of a run's config.yaml, None for somebody else's file of that name."""
    import elements

    from genreward_jax.rundir import RunDirectory

    try:
        saved = RunDirectory(str(file.parent)).saved_config()
        flat = dict(elements.Config(saved).flat)
    except (UserError, TypeError, ValueError, AttributeError):
        if any((file.parent / name).exists() for name in ("scores.jsonl", "run.lock", "checkpoint")):
            raise UserError(f"{file} cannot be read: mend it, or take the run away.") from None
        return None
    if not {"task", "method", "seed", "run.steps", "preset"} <= flat.keys():
        return None
    suite = str(flat["task"]).split("_", 1)[0]
    if not isinstance(flat["seed"], int) or f"env.{suite}.reward" not in _defaults():
        has = f"the seed {flat['seed']!r} and the task {flat['task']!r}"
        raise UserError(f"{file} has {has}, which no run has: mend it, or take the run away.")
    return flat
