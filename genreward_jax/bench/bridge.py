"""Item 4: how long a reward's answer takes through the bridge, by environments that ask at once and by model size."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from genreward_jax import config as config_lib
from genreward_jax.bench import floor
from genreward_jax.bench.figures import Figure, Item, Ratio, in_turns, quotients
from genreward_jax.bench.scale import TASK, Scale
from genreward_jax.device import cores
from genreward_jax.rewarding import bridge_spec

FRAMES = 16
LARGER = {"quick": (), "default": (128,), "full": (128, 256)}  # pixels of untrained families of the same classes


def measure(scale: Scale, flags: list[str], say: Callable[[str], None], out: Path) -> Item:
    """Milliseconds from asking to the last answer, numbers of windows in turns; bytes moved; the hand-over to JAX."""
    item = Item("a window's way through the bridge and its video encoder")
    with tempfile.TemporaryDirectory(prefix="genreward-bench-") as scratch:
        config = config_lib.parse(["--preset", scale.preset, "--task", TASK, *flags])
        _measure(item, config.model.family, config, scale, say)
        for pixels in LARGER[scale.name]:
            folder = Path(scratch) / str(pixels)
            say(f"making an untrained family of {pixels} pixels")
            command = [sys.executable, "-m", "torch_bridge.embedded", "--out", str(folder), "--frame-size", str(pixels)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            _measure(item, str(folder), config, scale, say)
    item.notes.append("windows of 16 frames; encode_video stacks what waits, so windows that come together cost less")
    return item


def _measure(item: Item, family: str, config: object, scale: Scale, say: Callable[[str], None]) -> None:
    from torch_bridge.client import Bridge

    spec = bridge_spec(config.update({"model.family": family}), None)
    with Bridge(spec, {"encode_video"}, on_event=lambda text: None) as bridge:
        counts = scale.windows if scale.name != "default" or family == "embedded" else scale.windows[:2]
        size, device = bridge.frame_size, bridge.describe()["device"]
        name = f"{Path(family).name if size == config.env.metaworld.size[0] else 'untrained'}, {size} pixels, {device}"
        rng = np.random.default_rng(0)
        windows = [rng.integers(0, 256, (FRAMES, size, size, 3), np.uint8) for _ in range(max(counts))]
        ask = lambda count: lambda: _ask(bridge, windows[:count])
        [_ask(bridge, windows[:count]) for count in counts]  # warm, each shape once
        say(name)
        found = in_turns({count: ask(count) for count in counts}, scale.other_rounds, say)
        for count, values in found.items():
            item.figures.append(Figure(f"{name}: {count} windows at once", "ms", values))
        most = max(counts)
        ratio = [most * x for x in quotients(found[1], found[most])]
        item.figures.append(Ratio(f"{name}: speed of {most} at once by one after the other", "", ratio))
        item.figures += _moved(bridge, windows[0], name)
    if scale.name == "quick":
        return
    if device != "cpu" or floor.backend() != "cpu":
        item.notes.append(f"{name}: no floor, as the speed of the device under torch is not measured here")
        return
    item.figures.append(_floor(f"{name}: 1 windows at once", family, config.bridge.threads, windows[0].nbytes))


def _floor(name: str, family: str, threads: int, window: int) -> Figure:
    """Of one window of that many bytes: torch counts the operations; its bytes and the weights are moved once."""
    command = [sys.executable, "-m", "torch_bridge.operations", "--family", family, "--frames", str(FRAMES)]
    cost = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    best = floor.Best.measured()
    best = floor.Best(best.products * min(1.0, threads / cores()), best.copying)
    return best.figure(name, cost["flops"], cost["bytes"] + window)


def _ask(bridge: object, windows: list[np.ndarray]) -> float:
    begun = time.perf_counter()
    [future.result() for future in [bridge.call("encode_video", window) for window in windows]]
    return 1e3 * (time.perf_counter() - begun)


def _moved(bridge: object, window: np.ndarray, name: str) -> list[Figure]:
    """Bytes of one window and its answer; the answer's hand-over to JAX, and whether its address stays."""
    from torch_bridge.dlpack import to_jax

    before = bridge.stats()["bytes"]
    answer = bridge.call("encode_video", window).result()
    moved = bridge.stats()["bytes"] - before
    to_jax(answer)  # warm
    begun = time.perf_counter()
    array = to_jax(answer)
    array.block_until_ready()
    took = 1e3 * (time.perf_counter() - begun)
    same = array.unsafe_buffer_pointer() == answer.ctypes.data
    return [
        Figure(
            f"{name}: bytes of a window and its answer", "kB", [moved / 1e3], f"the window is {window.nbytes / 1e3:g}"
        ),
        Figure(f"{name}: hand-over of the answer to JAX", "ms", [took], "same address" if same else "copied"),
    ]
