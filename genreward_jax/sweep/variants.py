"""A sweep's flags: every combination of their values, and what tells one from the others in a run's name."""

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import elements

from genreward_jax import config as config_lib
from genreward_jax.config import nearest
from genreward_jax.errors import UserError

OWN = {
    "task": "tasks",
    "method": "methods",
    "seed": "seeds",
    "preset": "preset",
    "logdir": "out",
}  # no flags of a sweep


def variants(flags: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Every combination of the flags' values, with what tells it from the others in a run's name."""
    defaults = elements.Config(config_lib.read_yaml("defaults")).flat
    combinations: list[dict[str, Any]] = []
    for variant in [flags] if isinstance(flags, Mapping) else flags:
        if not isinstance(variant, Mapping):
            raise UserError(f"A sweep's flags hold {variant!r}; write 'name: value' lines, or a list of such blocks.")
        axes = [[(flag, value) for value in _values(flag, variant[flag], defaults)] for flag in variant]
        combinations += [dict(chosen) for chosen in itertools.product(*axes)]
    everywhere = {flag: str(value) for flag, value in (combinations or [{}])[0].items()}
    for chosen in combinations[1:]:
        everywhere = {flag: v for flag, v in everywhere.items() if flag in chosen and str(chosen[flag]) == v}
    tell = lambda chosen: ",".join(f"{k}={_short(v)}" for k, v in chosen.items() if k not in everywhere)
    return [(tell(chosen) or ("default" if len(combinations) > 1 else ""), chosen) for chosen in combinations]


def _values(flag: str, value: Any, defaults: Mapping[str, Any]) -> list[Any]:
    """A flag's values as a list, for a flag that there is."""
    plain = str(flag)
    if plain in OWN or re.fullmatch(r"env\.\w+\.reward", plain):
        raise UserError(f"A sweep's flags set '{plain}', which is its '{OWN.get(plain, 'env_rewards')}': set that.")
    if plain not in defaults:
        raise UserError(f"There is no flag '{plain}' (under a sweep's flags): {nearest(plain, list(defaults))}")
    if isinstance(value, Mapping) or value is None:
        raise UserError(f"A sweep's flag '{plain}' is {value!r}; write a value, or a list of values.")
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if isinstance(defaults[plain], tuple | list):  # itself a list: only a list of lists is an axis
        is_list = is_list and bool(value) and not isinstance(value[0], str | int | float)
    values = list(value) if is_list else [value]
    if not values:
        raise UserError(f"A sweep's flag '{plain}' has no values.")
    return values


def _short(value: Any) -> str:
    """A value as part of a folder's name: short, and another for another value."""
    text = str(value) if not isinstance(value, list | tuple) else "x".join(map(str, value))
    plain = re.sub(r"[^\w.+-]+", "-", Path(text).name if "/" in text else text)[-40:].strip("-.") or "empty"
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
