"""Methods: which rewards are added to the environment's own, as ``configs/methods.yaml`` lists them."""

import importlib
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genreward_jax.config import nearest, read_yaml
from genreward_jax.errors import UserError
from genreward_jax.rewards.base import Reward, is_ours


@dataclass(frozen=True)
class Term:
    """One summand of eq. 10.

    Attributes:
        name: Its key in replay rows (``reward_<name>``) and metrics (``reward/<name>``).
        path: ``module:Class`` of the reward.
        weight: What its value is multiplied with.
        settings: Keyword arguments of the class; ``interval`` and ``frames`` always among them, and the ``reward``
            flags that the method's entry lists.
        weight_flag: The flag that sets the weight, as ``reward.alpha``; '' where the method says a number.
    """

    name: str
    path: str
    weight: float
    settings: dict[str, Any]
    weight_flag: str = ""

    @property
    def ours(self) -> bool:
        """Whether the class is the project's: a user's may import what only the bridge's interpreter has."""
        return is_ours(self.path)

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
        weight, flag = entry["weight"], ""
        if isinstance(weight, str):
            if weight not in flags:
                raise UserError(f"Method '{name}' weighs '{entry['name']}' with the flag --reward.{weight}: none such.")
            weight, flag = flags[weight], f"reward.{weight}"
        own = {**{flag: flags[flag] for flag in entry.get("flags", [])}, **entry.get("settings", {})}
        if own.get("interval", shared["interval"]) != shared["interval"]:
            raise UserError(
                f"Method '{name}' sets interval {own['interval']} for '{entry['name']}' but --reward.interval is "
                f"{shared['interval']}: environment and agent know one interval, so take it out of methods.yaml."
            )
        terms.append(Term(entry["name"], entry["class"], float(weight), {**shared, **own}, flag))
    return terms


def named_terms(rewards: Any, flags: dict[str, Any]) -> list[Term]:
    """Rewards named one by one, without a method, for those who have no Dreamer agent.

    Args:
        rewards: A name in methods.yaml or ``module:Class``; a list of them; or a mapping of names to ``module:Class``
            or to entries as in methods.yaml.
        flags: The ``reward`` flags.

    Raises:
        UserError: No such reward, one that is no reward or needs the agent, a weight that is not finite.
    """
    if isinstance(rewards, str):
        rewards = [rewards]
    if not rewards or not isinstance(rewards, Mapping | Sequence):
        raise UserError(f"The rewards are {rewards!r}; name one, as 'video' or 'module:Class', or several.")
    entries = (
        rewards.items()
        if isinstance(rewards, Mapping)
        else [(name.partition(":")[2] or name, name) for name in rewards]
    )
    terms = [_named_term(name, entry, flags) for name, entry in entries]
    names = [term.name for term in terms]
    if len(set(names)) < len(names):
        raise UserError(f"The rewards {', '.join(names)} have names twice; give a mapping of names to classes.")
    return terms


def _named_term(name: str, entry: Any, flags: dict[str, Any]) -> Term:
    known = {e["name"]: e for method in reversed(read_yaml("methods").values()) for e in method["rewards"]}
    if isinstance(entry, str):
        entry = {"class": entry, "weight": 1.0} if ":" in entry else known.get(entry)
    if entry is None or "class" not in entry:
        raise UserError(f"There is no reward '{name}': {nearest(name, list(known))} Or write module:Class.")
    weight = entry.get("weight", 1.0)
    weight = flags[weight] if isinstance(weight, str) else weight
    if not isinstance(weight, numbers.Real) or not math.isfinite(weight):
        raise UserError(f"The weight of the reward '{name}' is {weight}; it must be a finite number.")
    own = {flag: flags[flag] for flag in entry.get("flags", [])}
    shared = {"interval": flags["interval"], "frames": flags["frames"]}
    reward = import_reward(entry["class"])
    if not callable(reward) or not hasattr(reward, "needs"):
        raise UserError(f"{entry['class']!r} is no reward: derive it from genreward_jax.rewards.base.Reward")
    if reward.outputs:
        raise UserError(
            f"The reward '{name}' reads what the Dreamer agent's own networks return ({', '.join(reward.outputs)}), so "
            "it is there in training only: make train METHOD=genreward."
        )
    settings = {**shared, **own, **entry.get("settings", {})}
    reward(None, **settings)  # its own checks of its settings
    return Term(name, entry["class"], float(weight), settings)
