"""Item 6: the train step at the paper's sizes, upstream with repairs only against ours, beside its floor."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import elements

from genreward_jax.bench import floor
from genreward_jax.bench.apart import Apart
from genreward_jax.bench.figures import Figure, Item, Ratio, in_turns, quotients
from genreward_jax.bench.scale import Scale
from genreward_jax.bench.train_step import OURS, PLAIN, UPSTREAM, Stepper, configuration

GOAL = 3.0
ROUNDS = 3
MOVING = ("--agent.opt.warmup", "0")  # else the first steps hardly move a parameter, and their losses agree anyway


def measure(scale: Scale, flags: list[str], say: Callable[[str], None], out: Path) -> Item:
    """Seconds of a train step, variants in turns; operations, bytes, and the time that the best of both would take."""
    preset = "smoke" if scale.name == "quick" else "paper"
    flags = [*flags, *MOVING]
    item = Item(_title(configuration(preset, "none", flags)))
    switches = {UPSTREAM: PLAIN, OURS: {}}
    with ExitStack() as stack:
        made = {}
        for name, on in switches.items():
            say(f"compiling '{name}'")
            made[name] = stack.enter_context(Apart(_stepper, preset, flags, on))
            made[name].wait()  # one after the other: memory may not hold both first train steps at once
        rounds = 1 if scale.name == "quick" else ROUNDS
        ask = lambda one: lambda: 1e3 * one.call("train")
        found = in_turns({name: ask(one) for name, one in made.items()}, rounds, say)
        losses = [one.call("losses") for one in made.values()]
        memory, cost = {name: one.call("peak") for name, one in made.items()}, made[OURS].call("train_cost")
    item.figures += [Figure(name, "s", [ms / 1e3 for ms in values]) for name, values in found.items()]
    for name in list(found)[1:]:
        goal = GOAL if name == OURS else None
        item.figures.append(
            Ratio(f"speed of '{name}' by '{UPSTREAM}'", "", quotients(found[UPSTREAM], found[name]), goal=goal)
        )
    item.figures += [Figure(f"{name}: peak memory", "GB", [peak / 1e9]) for name, peak in memory.items()]
    item.figures += _floor(cost, found[OURS], configuration(preset, "none", flags), scale.name == "quick")
    apart = _difference(*losses)
    item.figures.append(Figure("largest difference of a loss after the same steps, relative", "", [apart]))
    item.notes.append(floor.NOTE)
    return item


def _title(config: elements.Config) -> str:
    """The sizes that a reader compares by."""
    rssm, images = config.agent.dyn.rssm, config.agent.enc.simple
    return (
        f"one train step of the preset '{config.preset}': batch {config.batch_size}x{config.batch_length}, "
        f"{rssm.deter} deterministic units in {rssm.blocks} blocks, {images.units} units, images through "
        f"{len(images.mults)} layers of {images.kernel}x{images.kernel} convolutions"
    )


def _difference(one: dict[str, float], other: dict[str, float]) -> float:
    """Largest difference of a loss, as a share of the larger of both; losses below 1e-6 count as that large."""
    return max(abs(one[key] - other[key]) / max(abs(one[key]), abs(other[key]), 1e-6) for key in one)


def _stepper(preset: str, flags: list[str], switches: dict[str, Any]) -> Stepper:
    """A variant; in a process of its own, since the memory of two may be more than there is."""
    return Stepper(configuration(preset, "none", flags, **switches))


def _floor(cost: tuple[float, float], took: list[float], config: elements.Config, quick: bool) -> list[Figure]:
    """The step's operations at the speed of one large matrix product, and its bytes at the speed of a copy."""
    dtype, (flops, moved) = config.jax.compute_dtype, cost
    best = floor.Best.measured(dtype, quick)
    fraction = [flops / (ms / 1e3) / best.products for ms in took]
    return [
        Figure("one large matrix product", "GFLOP/s", [best.products / 1e9], dtype),
        best.figure(OURS, flops, moved, "s"),
        Figure("fraction of the product's speed that the step reaches", "", fraction),
    ]
