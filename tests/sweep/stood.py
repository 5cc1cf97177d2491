"""Jobs for the stand-in of a training, and what became of them."""

import json
import sys
from pathlib import Path

from genreward_jax.sweep import plan

STANDIN = Path(__file__).resolve().parent / "standin.py"


def standin(pause_s):
    """The command line of a training whose steps take so long."""
    return (sys.executable, str(STANDIN), str(pause_s))


def jobs(*seeds, steps=20):
    return plan.grid(["reach"], ["none"], seeds, preset="smoke", flags={"run.steps": steps})


def lines(file):
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


def check_whole(folder, steps):
    """A run that is finished, with every step once in the life that counts and no two lives at a time."""
    lives, made = lines(Path(folder) / "lives.jsonl"), lines(Path(folder) / "steps.jsonl")
    for before, after in zip(lives, lives[1:], strict=False):
        last = max((row for row in made if row["pid"] == before["pid"]), key=lambda row: row["time"])
        assert last["time"] <= after["time"], "two trainings were in one directory at a time"
        assert after["start"] <= last["step"]
    for life in lives:
        own = [row["step"] for row in made if row["pid"] == life["pid"]]
        assert own == list(range(life["start"] + 1, life["start"] + 1 + len(own)))
    assert made[-1]["step"] == steps
    return lives
