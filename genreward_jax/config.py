"""Flags and YAML: defaults, presets and single flags laid over each other, checked, with sentences for mistakes."""

import contextlib
import difflib
import io
from pathlib import Path
from typing import Any

import elements
from ruamel.yaml import YAML

from genreward_jax.device import has_gpu
from genreward_jax.errors import UserError

SETTABLE = ("reward.", "fb.", "goal.", "model.family")  # flags that a method may set, or how they begin
PRESETS = ("paper", "cpu", "smoke")  # what --preset may name; the agent's size comes from these


def configs_folder() -> Path:
    """The folder of YAML files: beside the package in a checkout, inside it when installed."""
    beside = Path(__file__).resolve().parent.parent / "configs"
    return beside if (beside / "defaults.yaml").exists() else Path(__file__).resolve().parent / "configs"


def read_yaml(name: str) -> dict[str, Any]:
    """Content of one of the project's YAML files, by name without ending."""
    return YAML(typ="safe").load((configs_folder() / f"{name}.yaml").read_text()) or {}


def nearest(name: str, known: list[str]) -> str:
    """A half sentence: the known names most like ``name``, or else all of them (thirty, and how many more)."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    names = sorted(set(known))
    more = f" and {len(names) - 30} more" if len(names) > 30 else ""
    return f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(names[:30])}{more}."


def parse(argv: list[str], preset: str = "", base: elements.Config | None = None) -> elements.Config:
    """Flags of the embodied command line to one configuration.

    ``--preset NAME`` (or a preset's name after ``--configs``) chooses the agent's size; without one it is ``paper``
    where there is an NVIDIA GPU and ``cpu`` elsewhere; ``preset`` replaces that choice (a run's own, when it is
    continued on another machine). What the method sets (``with`` in ``methods.yaml``) lies over presets and under
    the flags. ``base``, a run's own configuration, takes the place of defaults and preset. Nothing is read but the YAML
    files and the command line.

    Raises:
        UserError: an unknown preset or flag (with the nearest), or a value of another type.
    """
    presets = read_yaml("presets")
    config = base or elements.Config(read_yaml("defaults"))
    argv, names = _take_configs(list(argv), presets)
    chosen = [name for name in names if name in PRESETS]
    preset = chosen[-1] if chosen else preset or config.preset or ("paper" if has_gpu() else "cpu")
    layers = ([] if chosen or base else [preset]) + names
    for name in layers:
        config = config.update(presets[name])
    config = config.update(preset=preset)
    method = _parse_flags(config, argv).method
    if base is None or method != base.method:  # what a run was started with already holds its own method's
        config = with_method(config, method)
    return _parse_flags(config, argv)


def with_method(config: elements.Config, method: str) -> elements.Config:
    """The configuration with what a method sets beside its rewards: ``with`` in its entry of ``methods.yaml``.

    A method that there is not is left for :func:`genreward_jax.methods.load_method` to refuse.

    Raises:
        UserError: the entry sets a flag that there is not, one that is not its to set, or to a value of another type.
    """
    for flag, value in method_flags(method).items():
        if flag not in config.flat or not flag.startswith(SETTABLE):
            known = [key for key in config.flat if key.startswith(SETTABLE)]
            raise UserError(
                f"Method '{method}' sets '{flag}' in methods.yaml, no flag of a method: {nearest(flag, known)}"
            )
        try:
            config = config.update({flag: value})
        except (TypeError, ValueError, AssertionError) as error:
            raise UserError(f"Method '{method}' sets {flag} to {value!r} in methods.yaml: {error}") from None
    return config


def method_flags(method: str) -> dict[str, Any]:
    """The flags that a method sets, by full name; none for a method that there is not."""
    return dict((read_yaml("methods").get(method) or {}).get("with") or {})


def _take_configs(argv: list[str], presets: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Splits ``--configs a b`` and ``--preset c`` off; gives the rest and the presets' names in order."""
    rest, names, chosen, taking = [], [], [], ""
    for arg in argv:
        if arg.startswith("--"):
            flag, _, value = arg.partition("=")
            taking = flag if flag in ("--configs", "--preset") else ""
            if not taking:
                rest.append(arg)
            values = value.replace(",", " ").split() if taking else []
        elif taking:
            values = arg.replace(",", " ").split()
        else:
            values = []
            rest.append(arg)
        names += values
        chosen += values if taking == "--preset" else []
    for name in chosen:
        if name not in PRESETS:
            raise UserError(f"There is no preset '{name}': {nearest(name, list(PRESETS))}")
    for name in names:
        if name not in presets:
            raise UserError(f"There is no preset '{name}': {nearest(name, list(presets))}")
    return rest, names


def _parse_flags(config: elements.Config, argv: list[str]) -> elements.Config:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            parsed, unknown = elements.Flags(config).parse_known(argv)
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"A flag has a value that does not fit: {str(error).strip(chr(34))}") from None
    for arg in unknown:
        if arg.startswith("--"):
            flag = arg[2:].partition("=")[0]
            if flag in config.flat:
                raise UserError(f"The flag --{flag} needs a value, such as --{flag} {config.flat[flag]}.")
            raise UserError(f"There is no flag --{flag}: {nearest(flag, list(config.flat))} See configs/defaults.yaml.")
    if unknown:
        raise UserError(f"'{unknown[0]}' belongs to no flag; flags are written --name value.")
    return parsed


def differences(old: dict[str, Any], new: dict[str, Any], ignore: tuple[str, ...] = ()) -> list[str]:
    """Lines 'key: old -> new' for each flat key whose values differ and that no prefix in ``ignore`` covers."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        if any(key == prefix or key.startswith(prefix + ".") for prefix in ignore):
            continue
        a, b = old.get(key, "(unset)"), new.get(key, "(unset)")
        a, b = (list(x) if isinstance(x, tuple) else x for x in (a, b))
        if a != b:
            lines.append(f"{key}: {a} -> {b}")
    return lines
