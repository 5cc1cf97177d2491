"""Methods: which rewards are added to the environment's own, as ``configs/methods.yaml`` lists them."""

import importlib
from dataclasses import dataclass
from typing import Any

from genreward_jax.config import nearest, read_yaml
from genreward_jax.errors import UserError
from genreward_jax.rewards.base import Reward


@dataclass(frozen=True)
class Term:
    """One summand of eq. 10.

    Attributes:
        name: Its key in replay rows (``reward_<name>``) and metrics (``reward/<name>``).
        path: ``module:Class`` of the reward.
        weight: What its value is multiplied with.
        settings: Keyword arguments of the class; ``interval`` and ``frames`` always among them, and the ``reward``
            flags that the method's entry lists.
    """

    name: str
    path: str
    weight: float
    settings: dict[str, Any]

    def reward_class(self) -> type[Reward]:
        """The class, imported here: its declarations are read by the trainer wherever it runs."""
        return import_reward(self.path)


def import_reward(path: str) -> type[Reward]:
    """Class behind ``module:Class``; UserError when it cannot be imported."""
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"The reward '{path}' cannot be imported ({error}); name it as module:Class.") from None


def load_method(name: str, flags: dict[str, Any]) -> list[Term]:
    """The method's terms, their weights looked up among the ``reward`` flags.

    Raises:
        UserError: no such method, or a weight that names no flag.
    """
    methods = read_yaml("methods")
    if name not in methods:
        raise UserError(f"There is no method '{name}': {nearest(name, list(methods))}")
    shared = {"interval": int(flags["interval"]), "frames": int(flags["frames"])}
    terms = []
    for entry in methods[name]["rewards"]:
        weight = entry["weight"]
        if isinstance(weight, str):
            if weight not in flags:
                raise UserError(f"Method '{name}' weighs '{entry['name']}' with the flag --reward.{weight}: none such.")
            weight = flags[weight]
        own = {**{flag: flags[flag] for flag in entry.get("flags", [])}, **entry.get("settings", {})}
        if own.get("interval", shared["interval"]) != shared["interval"]:
            raise UserError(
                f"Method '{name}' sets interval {own['interval']} for '{entry['name']}' but --reward.interval is "
                f"{shared['interval']}: environment and agent know one interval, so take it out of methods.yaml."
            )
        terms.append(Term(entry["name"], entry["class"], float(weight), {**shared, **own}))
    return terms
