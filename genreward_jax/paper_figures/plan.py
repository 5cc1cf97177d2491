"""``configs/figures.yaml`` as objects: which runs a figure needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genreward_jax import config as config_lib
from genreward_jax.errors import UserError

if TYPE_CHECKING:
    from genreward_jax.sweep.plan import Job

KINDS = ("table", "pipeline", "actions", "observations", "curves", "strips", "key_frame", "second_best")
WITHOUT_RUNS = ("table", "pipeline")


def _blocks(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(one, Mapping) for one in value.values())


def _list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(isinstance(one, kind) for one in value)


def _seeds(value: Any) -> bool:
    return isinstance(value, list) and all(type(seed) is int and seed >= 0 for seed in value)  # True is an int too


def _files(value: Any) -> bool:
    return value is None or isinstance(value, Mapping) and all(isinstance(v, str | Mapping) for v in value.values())


def _numbers(value: Any) -> bool:
    return _blocks(value) and all(type(number) in (int, float) for task in value.values() for number in task.values())


# What the value of each key must be, and in words.
FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "presets": (_blocks, "a block of presets, as 'smoke: {seeds: [0]}'"),
    "figures": (_blocks, "a block of figures, as \"'5': {kind: curves, groups: [...]}\""),
    "groups": (_list_of(Mapping), "a list of groups, as '- {tasks: [...], lines: {...}}'"),
    "tasks": (_list_of(str), "a list of names, as [pick_place]"),
    "lines": (_blocks, "a block of lines, as 'GenReward: {method: genreward}'"),
    "videos": (lambda value: isinstance(value, Mapping), "a block with files"),
    "files": (_files, "a block of videos, as 'Bridge: {file: videos/bridge.mp4, prompt: pick up the fork}'"),
    "seeds": (_seeds, "a list of whole numbers from 0, as [0, 1]"),
    "printed": (_numbers, "a block of numbers a task, as 'pick_place: {GenReward: 504}'"),
}
WORDS: tuple[Callable[[Any], bool], str] = (lambda value: isinstance(value, str), "words")  # for every other key


@dataclass(frozen=True)
class Line:
    """One training setting: a line of a curve, a row of a strip.

    Attributes:
        label: In the legend.
        method: Of configs/methods.yaml.
        env_reward: dense, sparse or none.
        flags: (flag, value) pairs of what the line sets beside these.
    """

    label: str
    method: str
    env_reward: str = "dense"
    flags: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Group:
    """Lines that are compared, each on every task."""

    name: str
    tasks: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Figure:
    """One of the paper's figures.

    Attributes:
        name: As the paper numbers it.
        kind: One of :data:`KINDS`.
        seeds: That it needs whatever the preset says; empty leaves it to that.
        printed: task, then label, to the return that the paper's text gives for the end of the curve.
        asks: What the user has to fill in before the figure has all its lines; '' for nothing.
    """

    name: str
    kind: str
    title: str
    groups: tuple[Group, ...] = ()
    seeds: tuple[int, ...] = ()
    note: str = ""
    printed: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    asks: str = ""

    @property
    def varied(self) -> tuple[str, ...]:
        """Flags that its lines set."""
        return tuple(dict.fromkeys(flag for group in self.groups for line in group.lines for flag, _ in line.flags))

    @property
    def cells(self) -> list[tuple[str, Line]]:
        """(task, line) of all its groups; two lines may be the same training."""
        return [(task, line) for group in self.groups for task in group.tasks for line in group.lines]


@dataclass(frozen=True)
class Wanted:
    """One run that a figure needs."""

    task: str
    line: Line
    seed: int

    def job(self, preset: str) -> "Job":
        """The training that makes it."""
        from genreward_jax.sweep.plan import grid

        flags = dict(settings(self.line, preset)[2])
        one = [self.task], [self.line.method], [self.seed], [self.line.env_reward]
        return grid(*one, [{}, flags], preset)[1] if flags else grid(*one, {}, preset)[0]


@dataclass(frozen=True)
class Plan:
    """All figures, and how large they are made."""

    figures: Mapping[str, Figure]
    presets: Mapping[str, Mapping[str, Any]]
    file: str = "configs/figures.yaml"

    def figure(self, name: str) -> Figure:
        """The figure with that name.

        Raises:
            UserError: There is none.
        """
        name = str(name).strip().removeprefix("Figure").strip().upper()
        if name not in self.figures:
            raise UserError(f"There is no figure '{name}' in {self.file}: there are {', '.join(self.figures)}.")
        return self.figures[name]

    def seeds(self, figure: Figure, preset: str) -> tuple[int, ...]:
        """Seeds that a figure is to have at a preset."""
        return figure.seeds or tuple(self.presets[preset]["seeds"])

    def wanted(self, figure: Figure, preset: str) -> list[Wanted]:
        """The runs that a figure needs, each once, the first seed of all before the second of any."""
        found: dict[tuple, Wanted] = {}
        for seed in self.seeds(figure, preset):
            for task, line in figure.cells:
                found.setdefault((task, settings(line, preset), seed), Wanted(task, line, seed))
        return list(found.values())


def settings(line: Line, preset: str) -> tuple:
    """What tells a line's runs from others': method, own reward, and the flags that are not the method's own value."""
    base = base_config(line.method, preset)
    flags = tuple(sorted((flag, value) for flag, value in line.flags if base[flag] != value))
    return line.method, line.env_reward, flags


def usual_preset(plan: Plan) -> str:
    """What `make train` takes on this machine, where the plan has it."""
    from genreward_jax.device import has_gpu

    usual = "paper" if has_gpu() else "cpu"
    return usual if usual in plan.presets else next(iter(plan.presets))


@cache
def base_config(method: str, preset: str) -> Mapping[str, Any]:
    """Every flag of a run with this method and preset and nothing else, by full name."""
    return dict(config_lib.parse(["--preset", preset, "--method", method]).flat)


def read(file: str | Path = "") -> Plan:
    """The plan in ``configs/figures.yaml``, or in a file of the same form.

    Raises:
        UserError: The file cannot be read, or asks for what there is not.
    """
    name = str(file or "configs/figures.yaml")
    content = _yaml(Path(file)) if file else config_lib.read_yaml("figures")
    if not isinstance(content, dict) or not {"presets", "figures"} <= content.keys():
        raise UserError(f"{name} is no plan of figures: it needs 'presets' and 'figures', as configs/figures.yaml has.")
    _check(content, ("presets", "figures"), name)
    presets = content["presets"]
    if not presets or not content["figures"]:
        raise UserError(f"{name} holds no {'figure' if presets else 'preset'}: it needs one or more of both.")
    for preset, given in presets.items():
        if preset not in config_lib.PRESETS:
            known = config_lib.nearest(str(preset), list(config_lib.PRESETS))
            raise UserError(f"{name}: there is no preset '{preset}': {known}")
        _check(given, ("seeds", "says"), f"{name}, preset {preset}")
        if not given.get("seeds"):
            raise UserError(f"{name}, preset {preset}: it names no seeds; write seeds: [0, 1, 2].")
    figures = {str(key).upper(): _figure(str(key).upper(), value, name) for key, value in content["figures"].items()}
    return Plan(figures, presets, name)


def _yaml(path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe").load(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"The plan of figures '{path}' cannot be read ({error.strerror}).") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"The plan of figures '{path}' is no YAML: {str(error).splitlines()[0]}.") from None


def _figure(name: str, content: Mapping[str, Any], file: str) -> Figure:
    where = f"{file}, figure {name}"
    _check(content, ("kind", "title", "groups", "seeds", "note", "printed"), where)
    kind = content.get("kind", "")
    if kind not in KINDS:
        raise UserError(f"{where}: there is no kind '{kind}': {config_lib.nearest(str(kind), list(KINDS))}")
    given = content.get("groups", [])
    asks = ""
    groups = tuple(_group(group, where) for group in given)
    for group in given:
        if "videos" in group and not group["videos"].get("files"):
            asks = (
                f"It has no goal videos yet: name them in {file} under figures, '{name}', groups, videos, files, a "
                "line each, as `Bridge: {file: videos/bridge.mp4, prompt: pick up the blue fork}`."
            )
    return Figure(
        name=name,
        kind=kind,
        title=str(content.get("title", "")),
        groups=groups,
        seeds=tuple(content.get("seeds", ())),
        note=str(content.get("note", "")),
        printed=content.get("printed", {}),
        asks=asks,
    )


def _group(content: Mapping[str, Any], where: str) -> Group:
    from genreward_jax.envs.metaworld import check_task

    _check(content, ("name", "tasks", "lines", "videos"), where)
    lines = [_line(str(label), dict(given), where) for label, given in content.get("lines", {}).items()]
    if "videos" in content:
        lines += _videos(content["videos"], where)
    tasks = tuple(check_task(task) for task in content.get("tasks", ()))
    if not tasks or not (lines or "videos" in content):
        raise UserError(f"{where}: each of its groups needs tasks and lines.")
    return Group(str(content.get("name", "")), tasks, tuple(lines))


def _line(label: str, given: dict[str, Any], where: str) -> Line:
    method, env_reward = str(given.pop("method", "")), str(given.pop("env_reward", "dense"))
    if not method:
        raise UserError(f"{where}: the line '{label}' names no method.")
    if env_reward not in ("dense", "sparse", "none"):
        raise UserError(f"{where}: the line '{label}' has env_reward '{env_reward}': dense, sparse or none.")
    for flag, value in given.items():
        if flag not in _flags():
            near = config_lib.nearest(str(flag), list(_flags()))
            raise UserError(f"{where}: the line '{label}' sets '{flag}', no flag there is: {near}")
        if not isinstance(value, str | int | float):
            raise UserError(f"{where}: the line '{label}' sets {flag} to {value!r}; it must be a number or a word.")
    return Line(label, method, env_reward, tuple(given.items()))


def _videos(content: Mapping[str, Any], where: str) -> list[Line]:
    """A line for each goal video that was named."""
    _check(content, ("method", "env_reward", "files"), where)
    lines = []
    for label, given in (content.get("files") or {}).items():
        given = {"file": given} if isinstance(given, str) else dict(given)
        _check(given, ("file", "prompt"), f"{where}, video {label}")
        path = Path(str(given.get("file", ""))).expanduser()
        if not given.get("file") or not path.exists():
            raise UserError(f"{where}: there is no goal video at '{path}', which it names for the line '{label}'.")
        flags = (("goal.source", str(path.resolve())), ("goal.prompt", str(given.get("prompt", ""))))
        method = str(content.get("method", "genreward"))
        lines.append(Line(str(label), method, str(content.get("env_reward", "dense")), flags))
    return lines


@cache
def _flags() -> tuple[str, ...]:
    import elements

    return tuple(elements.Config(config_lib.read_yaml("defaults")).flat)


def _check(content: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    """Refuses a key that means nothing there, and a value of another form than its key's."""
    for key, value in content.items():
        if key not in known:
            raise UserError(f"{where}: '{key}' means nothing there: {config_lib.nearest(str(key), list(known))}")
        fits, words = FORMS.get(key, WORDS)
        if not fits(value):
            raise UserError(f"{where}: '{key}' is {_short(value)}; it must be {words}.")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
