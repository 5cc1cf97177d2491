"""Item 8: how cost grows with environments, with the reward's window, and with the replay."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import embodied
import numpy as np

from genreward_jax import config as config_lib
from genreward_jax.bench.figures import Figure, Item
from genreward_jax.bench.loop import Contestant, configuration
from genreward_jax.bench.scale import TASK, Scale
from genreward_jax.rewarding import bridge_spec

ENVS = {"quick": (1, 2), "default": (1, 4), "full": (1, 2, 4, 8, 16)}
WINDOWS = {"quick": (4, 8), "default": (8, 16), "full": (4, 8, 16, 32, 64)}
ROWS = {"quick": (10**3,), "default": (10**4, 10**5), "full": (10**4, 10**5, 10**6)}
ROW = 64  # bytes of a row's image in the replay that only grows in items
LENGTH, BATCH = 33, 8


def measure(scale: Scale, flags: list[str], say: Callable[[str], None], out: Path) -> Item:
    """Loop speed by environments, answer time by frames of a window, time of adding and sampling by rows."""
    item = Item("how cost grows")
    with tempfile.TemporaryDirectory(prefix="genreward-bench-") as scratch:
        for envs in ENVS[scale.name]:
            say(f"{envs} environment(s)")
            config = configuration(scale, "genreward", envs, Path(scratch) / str(envs), flags)
            contestant = Contestant(config, freeze=True)
            try:
                if scale.name != "quick":
                    contestant.warm()
                speeds = [contestant.round() for _ in range(scale.rounds_of(envs))]
                item.figures.append(Figure(f"genreward, {envs} environment(s)", "steps/s", speeds))
            finally:
                contestant.close()
    item.figures += _windows(scale, flags, say)
    for rows in ROWS[scale.name]:
        say(f"a replay of {rows:,} rows")
        item.figures += _replay(rows)
    item.notes.append("numbers of environments are measured one after the other: their differences hold the machine's")
    item.notes.append(f"the growing replay holds rows of {ROW} bytes: what grows is the sampler's bookkeeping")
    return item


def _windows(scale: Scale, flags: list[str], say: Callable[[str], None]) -> list[Figure]:
    from torch_bridge.client import Bridge

    config = config_lib.parse(["--preset", scale.preset, "--task", TASK, *flags])
    figures, rng = [], np.random.default_rng(0)
    with Bridge(bridge_spec(config, None), {"encode_video"}, on_event=lambda text: None) as bridge:
        for frames in WINDOWS[scale.name]:
            say(f"windows of {frames} frames")
            times = []
            for _ in range(4):
                window = rng.integers(0, 256, (frames, bridge.frame_size, bridge.frame_size, 3), np.uint8)
                begun = time.perf_counter()
                bridge.call("encode_video", window).result()
                times.append(1e3 * (time.perf_counter() - begun))
            figures.append(Figure(f"answer to a window of {frames} frames", "ms", times[1:]))
    return figures


def _replay(rows: int) -> list[Figure]:
    """Upstream's replay, filled: microseconds to add a row, milliseconds to sample a batch."""
    replay = embodied.replay.Replay(length=LENGTH, capacity=rows, online=False, chunksize=1024, seed=0)
    row = {"image": np.zeros(ROW, np.uint8), "is_first": np.bool_(False), "is_last": np.bool_(False)}
    for _ in range(rows + LENGTH):
        replay.add(row)
    begun = time.perf_counter()
    for _ in range(1000):
        replay.add(row)
    added = 1e6 * (time.perf_counter() - begun) / 1000
    times = []
    for _ in range(20):
        begun = time.perf_counter()
        replay.sample(BATCH)
        times.append(1e3 * (time.perf_counter() - begun))
    return [
        Figure(f"replay of {rows:,} rows: to add a row", "us", [added]),
        Figure(f"replay of {rows:,} rows: to sample {BATCH}x{LENGTH}", "ms", times),
    ]
