"""What a sweep trains: tasks x methods x environment rewards x seeds x flags, as a list of jobs with their names."""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import elements
from ruamel.yaml import YAML, YAMLError

from genreward_jax import config as config_lib
from genreward_jax.config import configs_folder, differences, nearest
from genreward_jax.errors import UserError
from genreward_jax.methods import load_method
from genreward_jax.rundir import MAY_CHANGE
from genreward_jax.suites import file_name, one_of, split_task
from genreward_jax.sweep.storage import Store
from genreward_jax.sweep.variants import variants

KINDS = {
    "flags": (Mapping | list, "a block of 'flag: value' lines"),
    "out": (str, "a folder or URL"),
    "resources": (Mapping, "a block of 'name: amount' lines"),
    "preset": (str, "a name"),
    "retries": (int, "a whole number from 0"),
    "at_once": (int, "a whole number from 1"),
}
RESOURCES = ("num_cpus", "num_gpus", "memory", "custom")


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        name: As 'shelf_place/dense/genreward/seed0'; also its folder under the sweep's output.
        flags: Everything after ``python -m genreward_jax train``, without ``--logdir``.
    """

    name: str
    flags: tuple[str, ...]

    def config(self, preset: str = "") -> elements.Config:
        """The run's configuration; ``preset`` where its flags name none.

        Raises:
            UserError: A flag that there is not, or a value that does not fit.
        """
        seed = self.flags.index("--seed") if "--seed" in self.flags else len(self.flags)
        parsed = _parsed(self.flags[:seed] + self.flags[seed + 2 :], preset)
        return parsed.update(seed=int(self.flags[seed + 1])) if seed < len(self.flags) else parsed


@functools.lru_cache(maxsize=1024)
def _parsed(flags: tuple[str, ...], preset: str) -> elements.Config:
    return config_lib.parse(list(flags), preset)  # some 70 ms, and a sweep's seeds differ in nothing else


@dataclass(frozen=True)
class Sweep:
    """A sweep as its YAML file tells it; see docs/sweeps.md for the keys."""

    name: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    env_rewards: tuple[str, ...] = ("dense",)
    seeds: tuple[int, ...] = (0,)
    preset: str = ""
    flags: Any = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    out: str = ""
    retries: int = 2
    at_once: int | None = None

    def jobs(self) -> list[Job]:
        """Its runs, the first seed of everything first."""
        return grid(self.tasks, self.methods, self.seeds, self.env_rewards, self.flags, self.preset)


def grid(
    tasks: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int],
    env_rewards: Sequence[str] = ("dense",),
    flags: Mapping[str, Any] | Sequence[Mapping[str, Any]] = {},  # noqa: B006 (never changed)
    preset: str = "",
) -> list[Job]:
    """All combinations as jobs, the first seed of everything before the second of anything.

    Args:
        tasks: As 'shelf_place' (of Meta-World) or with their suite, as 'gym_CartPole-v1'.
        methods: Names in methods.yaml.
        seeds: Numbers from 0.
        env_rewards: 'dense', 'sparse', 'none'.
        flags: By full name. A list of values is one more axis (for a flag that is a list itself: a list of lists).
            Several mappings are several variants. A flag whose value varies stands in the run's name.
        preset: '' leaves the choice to the machine that trains.

    Raises:
        UserError: An unknown task, method, reward, preset or flag (with the nearest), a value that does not fit, an
            axis without values, or the same run twice.
    """
    axes = {"tasks": tasks, "methods": methods, "seeds": seeds, "env_rewards": env_rewards}
    for axis, values in axes.items():
        if not values:
            raise UserError(f"A sweep needs at least one of {axis}.")
        twice = next((value for value in values if list(values).count(value) > 1), None)
        if twice is not None:
            raise UserError(f"A sweep's {axis} name '{twice}' twice.")
    for reward in env_rewards:
        one_of("env_rewards", reward, ("dense", "sparse", "none"))
    if min(seeds) < 0:
        raise UserError(f"A sweep's seed is {min(seeds)}; it must be 0 or more.")
    combinations = variants(flags)
    jobs = [
        _job(task, reward, method, int(seed), suffix, variant, preset)
        for seed in seeds
        for task in tasks
        for reward in env_rewards
        for suffix, variant in combinations
        for method in methods
    ]
    for task in {task.startswith("gym_"): task for task in tasks}.values():  # a suite's other tasks say nothing new
        for (suffix, variant), method in itertools.product(combinations, methods):
            _check(_job(task, env_rewards[0], method, int(seeds[0]), suffix, variant, preset))
    names = [job.name for job in jobs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"Two runs of this sweep would be the same, or share the name {twice}: take one out.")
    return jobs


def _job(task: str, reward: str, method: str, seed: int, suffix: str, variant: Mapping, preset: str) -> Job:
    task = task if task.startswith(("gym_", "metaworld_")) else f"metaworld_{task}"
    suite, plain = split_task(task)
    flags = ["--task", f"{suite}_{plain}", *(["--preset", preset] if preset else []), "--method", method]
    flags += [f"--env.{suite}.reward", reward, "--seed", str(seed)]
    for flag, value in variant.items():
        flags += [f"--{flag}", *map(str, value if isinstance(value, list | tuple) else [value])]
    parts = (file_name(plain), reward, method, *([suffix] if suffix else []), f"seed{seed}")
    return Job("/".join(parts), tuple(flags))


def _check(job: Job) -> None:
    """What can be said of a job's settings without opening an environment."""
    config = job.config()
    load_method(config.method, dict(config.reward))


def read_sweep(path: str | Path) -> Sweep:
    """A sweep from its YAML file: a path, or a name under ``configs/sweeps``.

    Raises:
        UserError: No such file, no YAML, a key that there is not (with the nearest), or a value that does not fit.
    """
    file = Path(path)
    folder = configs_folder() / "sweeps"
    if not file.is_file() and file.name == str(path):
        file = folder / f"{file.name.removesuffix('.yaml')}.yaml"
    if not file.is_file():
        known = sorted(found.stem for found in folder.glob("*.yaml"))
        raise UserError(f"There is no sweep '{path}': {nearest(Path(path).stem, known)} Or give a file's path.")
    try:
        content = YAML(typ="safe").load(file.read_text())
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{file} holds no 'key: value' lines; it needs tasks, methods and seeds.")
    keys = [name for name in Sweep.__dataclass_fields__ if name != "name"]
    for key in content:
        if key not in keys:
            raise UserError(f"{file} has a key '{key}' that a sweep has not: {nearest(str(key), keys)}")
    for key in ("tasks", "methods"):
        if key not in content:
            raise UserError(f"{file} does not say which {key}; write {key}: [...]")
    return _sweep(file, dict(content))


def _sweep(file: Path, content: dict[str, Any]) -> Sweep:
    """The checked sweep of a file's content."""
    for key in ("tasks", "methods", "env_rewards", "seeds"):
        if key in content:
            value = content[key]
            value = value if isinstance(value, list) else [value]
            kind = int if key == "seeds" else str
            for one in value:
                if not isinstance(one, kind) or isinstance(one, bool):
                    what = "a whole number" if kind is int else "a name"
                    raise UserError(f"{file}: {key} holds {one!r}, which is not {what}.")
            content[key] = tuple(value)
    for key, (kind, what) in KINDS.items():
        if key in content and (not isinstance(content[key], kind) or isinstance(content[key], bool)):
            raise UserError(f"{file}: {key} is {content[key]!r}; it must be {what}.")
    if content.get("retries", 0) < 0 or content.get("at_once", 1) < 1:
        raise UserError(f"{file}: retries must be 0 or more, and at_once 1 or more.")
    check_resources(content.get("resources", {}), str(file))
    sweep = Sweep(file.stem, **content)
    if not sweep.out:
        sweep = Sweep(file.stem, **{**content, "out": f"runs/sweeps/{file.stem}"})
    sweep.jobs()
    return sweep


def check_resources(resources: Mapping[str, Any], where: str = "resources") -> None:
    """Refuses what a run cannot be given.

    Args:
        resources: ``num_cpus``, ``num_gpus`` (fractions too), ``memory`` (bytes), ``custom`` (a mapping of names).
        where: Begins the sentence.

    Raises:
        UserError: Another name (with the nearest), or an amount that is no number or negative.
    """
    for name, value in resources.items():
        if name not in RESOURCES:
            raise UserError(f"{where}: there is no resource '{name}': {nearest(str(name), list(RESOURCES))}")
        if name == "custom" and not isinstance(value, Mapping):
            raise UserError(f"{where}: the resource 'custom' is {value!r}; it must be a mapping of names to amounts.")
        amounts = value.items() if name == "custom" else [(name, value)]
        for kind, amount in amounts:
            if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < math.inf:
                raise UserError(f"{where}: the resource '{kind}' is {amount!r}; it must be a number from 0.")
            if kind in ("num_cpus", "num_gpus") and amount > 1 and amount != int(amount):
                raise UserError(f"{where}: '{kind}' is {amount}; above 1 it must be a whole number.")


def is_done(logdir: str | Path, job: Job) -> bool:
    """Whether a run is finished: its last checkpoint and evaluation reached run.steps, and its settings are the job's.

    Args:
        logdir: The run's folder, or its fsspec URL.
    """
    store = Store(logdir)
    text = store.read("config.yaml")
    if text is None:
        return False
    try:
        saved = elements.Config(YAML(typ="safe").load(text))
        wanted = job.config(preset=saved.preset)
    except (YAMLError, UserError, AttributeError, TypeError):
        return False
    defaults = elements.Config(config_lib.read_yaml("defaults")).flat  # a flag that is younger than the run
    ignored = [flag for flag in MAY_CHANGE if flag not in ("goal.source", "goal.image")]  # other ones, another goal
    ignored += [_automatic(wanted)] if _automatic(wanted) else []
    if differences({**defaults, **saved.flat}, wanted.flat, ignore=ignored):
        return False
    if store.step() < wanted.run.steps:
        return False
    evaluated = max((int(row["step"]) for row in store.scores() if "eval/score" in row), default=-1)
    return evaluated >= wanted.run.steps or wanted.eval.episodes < 1


def _automatic(config: elements.Config) -> str | None:
    """A flag whose 'auto' a run settles for itself."""
    return "env.metaworld.quality" if config.env.metaworld.quality == "auto" else None
