"""Measured figures with their spread, ratios between what was measured in turns, and the table of them."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Figure:
    """One quantity, measured several times.

    Attributes:
        name: What it is, in words.
        unit: 'ms', 'steps/s', ...; '' for a count.
        values: One a round.
        note: What a reader must know of it.
    """

    name: str
    unit: str
    values: list[float]
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def as_dict(self) -> dict[str, Any]:
        """With median, least and largest, as bench.json holds it; of a single value the last two are null."""
        least, largest = (min(self.values), max(self.values)) if len(self.values) > 1 else (None, None)
        spread = {"median": self.median, "least": least, "largest": largest}
        return {"name": self.name, "unit": self.unit, **spread, "values": self.values, "note": self.note}


@dataclass
class Ratio(Figure):
    """A quotient, one a round; with a goal where the project has set one.

    Attributes:
        goal: What the median should reach at least; None where there is no goal.
    """

    goal: float | None = None

    def as_dict(self) -> dict[str, Any]:
        reached = None if self.goal is None else self.median >= self.goal
        return {**super().as_dict(), "goal": self.goal, "reached": reached}


@dataclass
class Item:
    """One numbered item of the benchmark: its figures and what to know of how they came about."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {"title": self.title, "figures": [figure.as_dict() for figure in self.figures], "notes": self.notes}


def in_turns(
    variants: Mapping[str, Callable[[], float]], rounds: int, say: Callable[[str], None] = lambda text: None
) -> dict[str, list[float]]:
    """Calls each variant once a round, another one first each time, so that a noisy machine harms all alike.

    Args:
        variants: Each measures once and gives its figure.
        rounds: 1 or more.
        say: Told which round has begun.

    Returns:
        The figures of each variant, one a round, in the order of the rounds.
    """
    names, found = list(variants), {name: [] for name in variants}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        start = number % len(names)
        for name in names[start:] + names[:start]:
            found[name].append(float(variants[name]()))
    return found


def quotients(above: list[float], below: list[float]) -> list[float]:
    """``above`` over ``below``, round by round: what was measured next to each other."""
    return [a / b for a, b in zip(above, below, strict=True)]


def table(items: Mapping[str, Mapping[str, Any]]) -> str:
    """The items of a bench.json as aligned text."""
    lines = []
    for number, item in items.items():
        lines += ["", f"{number}. {item['title']}"]
        width = max((len(figure["name"]) for figure in item["figures"]), default=0)
        lines += [f"   {_row(figure, width)}" for figure in item["figures"]]
        lines += [f"   ({note})" for note in item["notes"]]
    return "\n".join(lines[1:])


def markdown(items: Mapping[str, Mapping[str, Any]]) -> str:
    """The items of a bench.json as tables for a document."""
    lines = []
    for number_, item in items.items():
        lines += ["", f"{number_}. {item['title']}", "", "| | median | from | to | |", "|---|---|---|---|---|"]
        for figure in item["figures"]:
            note = figure["note"]
            if figure.get("goal") is not None:
                note = f"goal {figure['goal']:g}: {'reached' if figure['reached'] else 'not reached'} {note}".rstrip()
            spread = [number(figure[name]) for name in ("least", "largest")] if len(figure["values"]) > 1 else ["", ""]
            cells = [figure["name"], f"{number(figure['median'])} {figure['unit']}".rstrip(), *spread, note]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines[1:]) + "\n"


def _row(figure: Mapping[str, Any], width: int) -> str:
    text = f"{figure['name']:<{width}}  {number(figure['median']):>9} {figure['unit']:<9}"
    if len(figure["values"]) > 1:
        text += f" [{number(figure['least'])} to {number(figure['largest'])}, {len(figure['values'])} rounds]"
    if figure.get("goal") is not None:
        text += f"  goal {figure['goal']:g}: {'reached' if figure['reached'] else 'NOT reached'}"
    return f"{text}  {figure['note']}".rstrip()


def number(value: float) -> str:
    """Three digits that count, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
