"""What runs when: some seconds of a training loop, from JAX's own profiler, as a picture."""

import gzip
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 2.5  # drawn
BEFORE = 8  # steps of the first environment before the row that is paid
# Row of the picture to the Python calls (as the profiler names them) whose time it shows.
CALLS = {
    "environment\n(its own process)": ("repairs.py", " _receive"),
    "policy call": ("agent.py", " policy"),
    "train step,\nhanded over": ("train.py", " train_step"),
}
XLA, REWARD = "XLA's threads\nat work", "reward\n(model process)"
COLORS = ("tab:green", "tab:blue", "tab:orange", "tab:red", "tab:purple")

Spans = list[tuple[float, float]]  # (start, end) in seconds


def record(contestant: Any) -> dict[str, Spans]:
    """Plays a loop past a row that is paid, under the profiler: row of the picture to what was at work when."""
    import jax

    asked: Spans = []
    shaper, ask = contestant.rewarding.shaper, contestant.rewarding.shaper.pay

    def pay(*arguments: Any) -> Any:
        begun, answer = time.perf_counter(), ask(*arguments)
        answer.add_done_callback(lambda _: asked.append((begun - zero, time.perf_counter() - zero)))
        return answer

    _approach(contestant)  # the profiler keeps a million events, some seconds
    with tempfile.TemporaryDirectory(prefix="genreward-trace-") as folder:
        jax.profiler.start_trace(folder)
        shaper.pay, zero = pay, time.perf_counter()
        while time.perf_counter() - zero < SECONDS:
            contestant.advance()
        contestant.settle()
        jax.profiler.stop_trace()
        shaper.pay = ask
        (file,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    return {**spans(events), REWARD: asked}


def _approach(contestant: Any) -> None:
    """Plays until the first environment is ``BEFORE`` steps from a reward row, through one whole episode at most."""
    worker, interval, resets = contestant.rewarding.shaper.workers[0], contestant.interval, 0
    while (worker.step + BEFORE) % interval and resets < 2:
        before = worker.step
        contestant.advance()
        resets += worker.step <= before


def spans(events: list[dict[str, Any]]) -> dict[str, Spans]:
    """A Chrome trace's complete events, sorted into the picture's rows."""
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e.get("name") == "thread_name"}
    found: dict[str, Spans] = {name: [] for name in (*CALLS, XLA)}
    for event in (e for e in events if e.get("ph") == "X"):
        span = event["ts"] / 1e6, (event["ts"] + event["dur"]) / 1e6
        if "XLA" in threads.get((event["pid"], event["tid"]), ""):
            found[XLA].append(span)
        for name, (file, function) in CALLS.items():
            if event["name"].startswith(f"${file}:") and event["name"].endswith(function):
                found[name].append(span)
    return found


def draw(path: Path, rows: dict[str, Spans], title: str) -> None:
    """Bars over time, a row for each kind of work."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(11, 3.4), layout="constrained")
    for row, kept in enumerate(rows.values()):
        axes.broken_barh([(a, b - a) for a, b in kept], (row - 0.35, 0.7), color=COLORS[row])
    axes.set(yticks=range(len(rows)), yticklabels=list(rows), xlim=(0, SECONDS), xlabel="seconds", title=title)
    axes.invert_yaxis()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def picture(contestant: Any, path: Path, say: Callable[[str], None]) -> None:
    """Records a loop and draws it."""
    say("a picture of what runs when")
    config = contestant.config
    title = f"{config.method}, preset {config.preset}, {config.run.envs} environment(s), {config.jax.platform}"
    draw(path, record(contestant), title)
