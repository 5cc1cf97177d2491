"""What each convolution of stride 2 takes, upstream's way and ours: forward, slope by its image, slope by its kernel.

    python -m benchmarks.convolutions [--preset paper|cpu] [--rounds 5]

The layers are those of the preset's encoder and decoder, on images of 64x64 pixels, a whole batch of them, in the
preset's type of numbers. Both ways are measured in turns inside one process; the table has medians over rounds with the
least and the largest, ready for a document. A benchmark, not a test.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ninjax as nj
import numpy as np

from dreamerv3_patches.apply import apply

apply()

import embodied.jax.nets as nets  # noqa: E402

from dreamerv3_patches import speedups  # noqa: E402
from genreward_jax.bench.figures import in_turns, number  # noqa: E402
from genreward_jax.bench.train_step import configuration  # noqa: E402

SIDE = 64
WAYS = {"upstream": False, "ours": True}
PARTS = ("forward", "slope by image", "slope by kernel")


def layers(config: Any) -> list[tuple[str, bool, int, int, int]]:
    """(name, whether it doubles, side, channels before, channels after) of each layer that halves or doubles."""
    depths = [config.agent.enc.simple.depth * mult for mult in config.agent.enc.simple.mults]
    before, after = [3, *depths[:-1]], depths
    down = [(SIDE >> at, *pair) for at, pair in enumerate(zip(before, after, strict=True))]
    named = [(f"halves {side}x{side}, {a} to {b} channels", False, side, a, b) for side, a, b in down]
    up = [(side // 2, b, a) for side, a, b in reversed(down)]
    return named + [(f"doubles {side}x{side}, {a} to {b} channels", True, side, a, b) for side, a, b in up]


def programs(layer: tuple, kernel: int, images: int, dtype: Any) -> dict[str, Callable[[], float]]:
    """For each part the compiled program of a layer as the switch stands: seconds of one run."""
    _, doubles, side, before, after = layer
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
    module = nets.Conv2D(after, kernel, 2, transp=doubles, name="conv")
    bias, x, weight = draw(after), draw(images, side, side, before), draw(kernel, kernel, before, after)
    out = lambda x, weight: nj.pure(module)({"conv/kernel": weight, "conv/bias": bias}, x, seed=0)[1]
    slope = jnp.ones_like(out(x, weight))
    asked = {
        "forward": out,
        "slope by image": lambda x, weight: jax.vjp(lambda x: out(x, weight), x)[1](slope)[0],
        "slope by kernel": lambda x, weight: jax.vjp(lambda weight: out(x, weight), weight)[1](slope)[0],
    }
    compiled = {part: jax.jit(ask).lower(x, weight).compile() for part, ask in asked.items()}

    def seconds(program: Callable) -> float:
        begun = time.perf_counter()
        jax.block_until_ready(program(x, weight))
        return time.perf_counter() - begun

    return {part: lambda program=program: seconds(program) for part, program in compiled.items()}


def measure(layer: tuple, kernel: int, images: int, dtype: Any, rounds: int) -> list[str]:
    """A row of the table: for each part ours in ms with its spread, and how many times upstream's speed that is."""
    made = {}
    for way, fast in WAYS.items():
        speedups.set_fast_convs(fast)
        made[way] = programs(layer, kernel, images, dtype)
    cells = [layer[0]]
    for part in PARTS:
        runs = {way: made[way][part] for way in WAYS}
        [run() for run in runs.values()]
        found = in_turns(runs, rounds)
        ours, theirs = 1e3 * np.array(found["ours"]), 1e3 * np.array(found["upstream"])
        spread = f"({number(ours.min())} to {number(ours.max())})"
        cells += [f"{number(np.median(ours))} ms {spread}", f"{number(np.median(theirs / ours))}"]
    return cells


def main() -> None:
    """Prints the table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    config = configuration(args.preset, "none", [])
    images, dtype = config.batch_size * config.batch_length, jnp.dtype(config.jax.compute_dtype)
    nets.COMPUTE_DTYPE = dtype
    print(f"{args.preset}: {images} images, {dtype}, {args.rounds} rounds, {jax.devices()[0].device_kind}")
    head = ["layer", *(f"{part}{more}" for part in PARTS for more in ("", ", speed by upstream's"))]
    print("|", " | ".join(head), "|\n|" + "---|" * len(head))
    for layer in layers(config):
        print(
            "|", " | ".join(measure(layer, config.agent.enc.simple.kernel, images, dtype, args.rounds)), "|", flush=True
        )


if __name__ == "__main__":
    main()
