"""The table of ``make score`` on the terminal: rewards above, controls below, and a sentence for each reward."""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass

from genreward_jax.score.result import Score
from genreward_jax.score.statistics import Figures

WIDTH = 100
NAME = 17  # columns of a reward's name
SMALL_SHARE = 0.001  # of the signal: below it an agent hardly notices the reward
TITLES = {
    "as_trained": "as_trained: the rows that training would pay, weighted as in training",
    "every_step": "every_step: the plain reward at every step at which it has a value",
}
FEW_SEEDS = 5  # below it an interval of a bootstrap over seeds says little
RANKS = {  # the figures in which a reward is compared with the control 'pixels', and what they are called
    "auc_expert_vs_random": "random",
    "auc_expert_vs_stop25": "stop25",
    "auc_expert_vs_stop50": "stop50",
    "auc_expert_vs_stop75": "stop75",
    "kendall_tau_b_noise_ladder": "noise ladder",
    "kendall_tau_b_stop_ladder": "stop ladder",
}


@dataclass(frozen=True)
class Column:
    """One column: its heading in two lines, width, metric, and how a number of it is written."""

    above: str
    below: str
    width: int
    metric: str
    write: Callable[[dict], str]


def _two(figure: dict) -> str:
    return "-" if figure["value"] is None else f"{figure['value']:.2f}"


def _interval(figure: dict) -> str:
    return "-" if figure["low"] is None else f"{figure['low']:.2f} to {figure['high']:.2f}"


def _share(figure: dict) -> str:
    value = figure["value"]
    if value is None:
        return "-"
    if 0 < value < 1e-5:
        return "<0.001 %"
    return f"{100 * value:.2g} %" if 0 < value < 0.1 else f"{100 * value:.0f} %"


def _columns(variant: str) -> list[Column]:
    ranks = f"ranking/{variant}/"
    columns = [
        Column("expert >", "random", 9, f"{ranks}auc_expert_vs_random", _two),
        Column("95 %", "interval", 14, f"{ranks}auc_expert_vs_random", _interval),
        Column("expert >", "stop25", 9, f"{ranks}auc_expert_vs_stop25", _two),
        Column("expert >", "stop50", 9, f"{ranks}auc_expert_vs_stop50", _two),
        Column("expert >", "stop75", 9, f"{ranks}auc_expert_vs_stop75", _two),
        Column("noise", "ladder", 8, f"{ranks}kendall_tau_b_noise_ladder", _two),
        Column("stop", "ladder", 8, f"{ranks}kendall_tau_b_stop_ladder", _two),
    ]
    if variant == "as_trained":
        columns.append(Column("share of", "signal", 9, "agent/as_trained/share_by_size", _share))
    else:
        columns.append(Column("order", "in time", 9, "alignment/every_step/spearman_time", _two))
    columns.append(Column("own", "goal", 7, f"discrimination/{variant}/own_goal_first", _share))
    return columns


def table(score: Score, width: int = WIDTH) -> str:
    """The table, no line longer than ``width`` (100 and more)."""
    rewards = [name for name in score.figures if name not in score.controls]
    controls = [name for name in score.figures if name in score.controls]
    lines = [_heading(score), ""]
    for variant in TITLES:
        if any(name.split("/")[1] == variant for figures in score.figures.values() for name in figures):
            lines += _part(score, variant, rewards, controls)
    lines += [line for name in rewards for line in _wrapped(f"{name}: {verdict(score, name)}", width)]
    lines += [line for text in control_faults(score) for line in _wrapped(text, width)]
    lines += [line for text in score.notes for line in _wrapped(f"Note: {text}", width)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False) or [""]


def _heading(score: Score) -> str:
    what = score.task.replace("_", " ") if score.task else "given episodes"
    seeds = len(set(score.seeds))
    text = f"Rewards judged on {what}: {len(score.trajectories)} episodes of {seeds} seed{'s' * (seeds != 1)}."
    goal = f"Goal: {score.goal}." if score.goal else ""
    return "\n".join(_wrapped(f"{text} {goal}".strip(), WIDTH))


def _part(score: Score, variant: str, rewards: list[str], controls: list[str]) -> list[str]:
    """One variant's table; a column that no reward fills is left out."""
    columns = columns_of(score, variant)
    if not columns:
        return []
    rule = "-" * (NAME + sum(column.width for column in columns))
    lines = [TITLES[variant], " " * NAME + "".join(c.above.rjust(c.width) for c in columns)]
    lines.append("reward".ljust(NAME) + "".join(c.below.rjust(c.width) for c in columns))
    lines.append(rule)
    lines += [_row(name, score.figures[name], columns) for name in rewards]
    if controls and rewards:
        lines.append(rule.replace("-", " -")[: len(rule)])
    lines += [_row(name, score.figures[name], columns) for name in controls]
    return [*lines, rule, ""]


def _row(name: str, figures: Figures, columns: list[Column]) -> str:
    label = name if len(name) < NAME else name[: NAME - 2] + "…"
    padded = [cell.rjust(column.width) for cell, column in zip(cells(figures, columns), columns, strict=True)]
    return label.ljust(NAME) + "".join(padded)


def columns_of(score: Score, variant: str) -> list[Column]:
    """The columns of a variant's table that some reward fills."""
    return [c for c in _columns(variant) if any(c.metric in figures for figures in score.figures.values())]


def cells(figures: Figures, columns: list[Column]) -> list[str]:
    """A reward's numbers as they are written, '-' for those that there are not."""
    return [column.write(figures[column.metric]) if column.metric in figures else "-" for column in columns]


def verdict(score: Score, name: str) -> str:
    """What to think of a reward, in a sentence: does it rank, is it better than pixels, does the agent get it."""
    figures = score.figures[name]
    said = [_ranks(score, figures), _beside_pixels(score, name), *_received(figures)]
    return "; ".join(filter(None, said)) + "."


def _ranks(score: Score, figures: Figures) -> str:
    variant = "every_step" if any("/every_step/auc_expert_vs_random" in name for name in figures) else "as_trained"
    figure = figures.get(f"ranking/{variant}/auc_expert_vs_random")
    if figure is None or figure["value"] is None:
        return "expert and random episodes are not both there, so it cannot be ranked"
    number = f"{figure['value']:.2f} {variant}"
    if 0 < len(score.seeds) < FEW_SEEDS:
        number += f", of {len(score.seeds)} seeds only: no interval to trust"
    if figure["low"] is not None and figure["low"] > 0.5:
        return f"ranks experts above random ({number})"
    if figure["high"] is not None and figure["high"] < 0.5:
        return f"ranks random above experts ({number})"
    return f"does not tell experts from random ({number}, chance is inside its interval)"


def _beside_pixels(score: Score, name: str) -> str:
    """In which figures it is above the control that anyone has for nothing."""
    pixels, figures = score.figures.get("pixels"), score.figures[name]
    if pixels is None or name == "pixels":
        return ""
    said = []
    for variant in TITLES:
        both = [m for m in RANKS if _value(pixels, variant, m) is not None and _value(figures, variant, m) is not None]
        if not both:
            continue
        gains = {RANKS[m]: _value(figures, variant, m) - _value(pixels, variant, m) for m in both}
        above, below = ([name for name, gain in gains.items() if sign * gain > 0] for sign in (1, -1))
        words = [f"above in {len(above)}" + (f" ({', '.join(above)})" if 0 < len(above) < len(both) else "")]
        if len(above) + len(below) < len(both):
            words.append(f"equal in {len(both) - len(above) - len(below)}")
        if below:
            words.append(f"below in {len(below)}" + (f" ({', '.join(below)})" if len(below) < len(both) else ""))
        said.append(f"{variant} {', '.join(words)} of {len(both)} ranks")
    return "beside pixels: " + "; ".join(said) if said else ""


def _value(figures: Figures, variant: str, metric: str) -> float | None:
    return figures.get(f"ranking/{variant}/{metric}", {}).get("value")


def _received(figures: Figures) -> list[str]:
    """What is wrong with the reward as the agent gets it."""
    get = lambda name: (figures.get(f"agent/as_trained/{name}") or {}).get("value")  # noqa: E731
    rows, zero, same = get("rows"), get("zero_rows"), get("identical_rows")
    spread, noise, share = get("episode_spread"), get("float_noise"), get("share_by_size")
    said = []
    if rows is not None and not rows:
        return ["training would pay nothing"]
    if rows and zero == rows:
        return ["training would pay zeros only"]
    if rows and same == rows and rows > 1:
        said.append(f"all {rows:.0f} rows that training would pay are the same")
    if spread is not None and noise is not None and spread <= noise:
        said.append(f"its episode spread ({spread:.1g}) is below float noise ({noise:.1g})")
    if share is not None and share < SMALL_SHARE:
        said.append(f"it is {100 * share:.2g} % of the signal, under 0.1 %")
    return said


def control_faults(score: Score) -> list[str]:
    """What the controls should say and do not: then the figures of the others deserve no trust either."""
    faults = []

    def check(name: str, metric: str, right: Callable[[dict], bool], wanted: str) -> None:
        figure = score.figures.get(name, {}).get(metric)
        if figure is not None and figure["value"] is not None and not right(figure):
            found = f"{figure['value']:.2f}" + (f" ({_interval(figure)})" if figure["low"] is not None else "")
            few = f" With {len(score.seeds)} seeds chance does that." if 0 < len(score.seeds) < FEW_SEEDS else ""
            if name == "random" and not few:
                few = " Of such intervals one in ten misses by chance at 8 seeds: look again with more EPISODES=."
            faults.append(f"The control '{name}' should have {wanted} in {metric} and has {found}.{few}")

    for variant in TITLES:
        auc, time = f"ranking/{variant}/auc_expert_vs_random", f"alignment/{variant}/spearman_time"
        check("random", auc, lambda f: f["low"] <= 0.5 <= f["high"], "0.5 inside its interval")
        for name in ("constant", "ramp"):
            check(name, auc, lambda f: abs(f["value"] - 0.5) < 1e-9, "0.5")
        check("constant", time, lambda f: f["value"] == 0, "0")
        check("ramp", time, lambda f: f["value"] > 1 - 1e-6, "1")
    check("env", "ranking/as_trained/auc_expert_vs_random", lambda f: f["value"] > 1 - 1e-9, "1")
    return faults
