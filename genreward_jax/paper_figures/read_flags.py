"""Which flags a method reads: in the others two of its runs may differ and are the same training all the same."""

from collections.abc import Mapping
from functools import cache

import elements

from genreward_jax.config import read_yaml, with_method
from genreward_jax.errors import UserError
from genreward_jax.methods import Term, load_method
from genreward_jax.parts import uses_fb
from torch_bridge.families import MODEL_OF, OWN

SECTIONS = ("reward", "fb", "goal", "model")  # what only added rewards read
SHARED = ("frames", "max_pending_rows")  # under reward: of the goal, which every reward has, and of all rows that wait


def reads(method: str, flag: str) -> bool:
    """Whether a run with this method looks at that flag.

    The method's entry in methods.yaml and its rewards' classes tell. Every flag counts for a method that there is no
    more, and for one whose class cannot be imported here.
    """
    return _read_by(method).get(flag, True)


def own_models(method: str) -> list[str]:
    """Flags that name a model for this method beside the family's, as model.video_text of roboclip."""
    return [flag for flag in (f"model.{kind}" for kind in OWN) if reads(method, flag)]


@cache
def _read_by(method: str) -> Mapping[str, bool]:
    """Whether it is read, for each flag of :data:`SECTIONS`; nothing where that cannot be told."""
    config = with_method(elements.Config(read_yaml("defaults")), method)
    flags = [flag for flag in config.flat if flag.split(".")[0] in SECTIONS]
    try:
        terms = load_method(method, dict(config.reward))
        if not terms:
            return dict.fromkeys(flags, False)
        models = {MODEL_OF.get(need) for term in terms for need in term.reward_class().needs}
        has_fb, own = uses_fb(terms), _reward_flags(method, terms)
    except UserError:
        return {}
    read = {flag: flag in own if flag.startswith("reward.") else has_fb or flag[:3] != "fb." for flag in flags}
    return read | {f"model.{kind}": kind in models for kind in OWN} | {"goal.experts": has_fb}


def _reward_flags(method: str, terms: list[Term]) -> set[str]:
    """Flags under reward that its entry names, as a weight or for the class, and those that its rewards share."""
    entries = read_yaml("methods")[method]["rewards"]
    names = {*SHARED, *(flag for entry in entries for flag in entry.get("flags", ()))}
    names |= {entry["weight"] for entry in entries if isinstance(entry["weight"], str)}
    if any(_follows_the_interval(term) for term in terms):
        names.add("interval")
    return {f"reward.{name}" for name in names}


def _follows_the_interval(term: Term) -> bool:
    """Whether another ``reward.interval`` pays it at other steps: one with a rhythm of its own does not read it."""
    schedules = {term.reward_class()(None, **{**term.settings, "interval": each}).schedule() for each in (16, 32)}
    return len(schedules) > 1
