"""What REWARDS= may name, and the scorers behind the names."""

from collections.abc import Callable
from typing import Any

import elements

from genreward_jax.config import nearest, read_yaml
from genreward_jax.errors import UserError
from genreward_jax.methods import Term, load_method
from genreward_jax.parts import uses_fb
from genreward_jax.score.scorers import TermScorer

CONTROLS = ("random", "constant", "ramp", "pixels", "env")
VIDEO = ("video", "video_corrected")
FB = tuple(f"fb_{objective}{mix}" for objective in ("paper", "measure") for mix in ("", "_mix"))
DEFAULT = VIDEO  # what takes no training
_CONTROL = "genreward_jax.rewards.controls:"
_GENREWARD = "genreward_jax.rewards.genreward:"


def with_mixed(names: list[str], run_objective: str = "") -> list[str]:
    """After each of fb_paper and fb_measure whose networks are trained here, the row that is trained on the larger set.

    Args:
        names: As :func:`make_scorers` takes them.
        run_objective: Of the run's own networks, which stand for themselves; '' for none.
    """
    found = []
    for name in names:
        found.append(name)
        mixed = f"{name}_mix"
        if mixed in FB and name != f"fb_{run_objective}" and mixed not in names:
            found.append(mixed)
    return found


def make_scorers(names: list[str], method_config: Callable[[str], elements.Config]) -> list[TermScorer]:
    """Scorers of those names in that order, and of the controls, which are always there, after them.

    Args:
        names: Single rewards, methods of methods.yaml, or ``module:Class``.
        method_config: The configuration that a run with a method would have, under the user's flags; '' for the one
            of the command itself.

    Raises:
        UserError: A name that is none of these, or one twice.
    """
    wanted = [*names, *(name for name in CONTROLS if name not in names)]
    twice = sorted({name for name in wanted if wanted.count(name) > 1})
    if twice:
        raise UserError(f"REWARDS= names {', '.join(twice)} more than once.")
    return [_scorer(name, method_config) for name in wanted]


def _scorer(name: str, method_config: Callable[[str], elements.Config]) -> TermScorer:
    own = method_config("")
    flags, normalised = own.reward, own.fb.reward_norm == "running"
    shared = {"interval": int(flags.interval), "frames": int(flags.frames)}

    def term(path: str, weight: float, **more: Any) -> Term:
        key = "environment" if name == "env" else name  # a row's reward_env is the environment's already
        return Term(key, path, float(weight), {**shared, **more})

    if name in VIDEO:
        baseline = "still" if name == "video_corrected" else "none"
        return TermScorer(name, [term(f"{_GENREWARD}VideoReward", flags.alpha, baseline=baseline)])
    if name in FB:
        _, objective, *mix = name.split("_")
        terms = [term(f"{_GENREWARD}ForwardBackwardReward", flags.beta, fb_interval=flags.fb_interval)]
        return TermScorer(name, terms, objective=objective, mixed=bool(mix), normalised=normalised)
    if name in CONTROLS:
        return TermScorer(name, [term(f"{_CONTROL}{name.capitalize()}", 1.0 if name == "env" else flags.alpha)])
    if ":" in name:
        return TermScorer(name, [term(name, 1.0)])
    methods = read_yaml("methods")
    if name not in methods:
        known = {*VIDEO, *FB, *CONTROLS, *methods} - {"none"}
        raise UserError(
            f"There is no reward or method '{name}': {nearest(name, list(known))} Or name a class, module:Class."
        )
    config = method_config(name)
    terms = load_method(name, dict(config.reward))
    if not terms:
        raise UserError(f"The method '{name}' adds no reward: there is nothing to score.")
    objective = str(config.fb.objective) if uses_fb(terms) else ""
    normalised = config.fb.reward_norm == "running"
    scorer = TermScorer(name, terms, objective=objective, normalised=normalised, summed=True)
    if config.model.family != own.model.family:
        scorer.about = f"by {own.model.family}; METHOD={name} trains with {config.model.family} unless MODEL= is given"
    return scorer
