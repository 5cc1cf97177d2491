"""``standin.py SECONDS --flag value ...`` is to a sweep as the verb ``train``, with so many seconds a step.

It keeps its settings, locks its folder, writes scores and checkpoints, goes on from the last one, saves and leaves on
Ctrl-C, and says no by exit code 2.

The flag ``--seed`` chooses what else happens: 90 crashes once, 91 always, 92 is refused.

Each life adds a line to ``lives.jsonl`` and each step one to ``steps.jsonl``, so that a test sees who made which.
"""

import json
import os
import sys
import time

from genreward_jax import config as config_lib
from genreward_jax.errors import UserError
from genreward_jax.loggers import drop_after
from genreward_jax.rundir import RunDirectory, write_text
from genreward_jax.stopping import StopSignal

CRASHES_ONCE, CRASHES, REFUSED = 90, 91, 92


def checkpoint(folder, step):
    """As checkpoint.py: the folder, its pointer, then away with the older ones and with what it does not name."""
    target = folder / "checkpoint" / f"{step:012d}"
    target.mkdir(parents=True, exist_ok=True)
    (folder / "replay").mkdir(exist_ok=True)
    (folder / "replay" / f"chunk{step}.npz").write_text(str(step))
    (target / "state.json").write_text(json.dumps({"step": step, "replay": [f"chunk{step}.npz"]}))
    write_text(folder / "checkpoint" / "latest", target.name)
    for other in target.parent.iterdir():
        if other.is_dir() and other != target:
            (other / "state.json").unlink()
            other.rmdir()
    for chunk in (folder / "replay").iterdir():
        if chunk.name != f"chunk{step}.npz":
            chunk.unlink()


def add(file, **content):
    with file.open("a") as stream:
        stream.write(json.dumps(content) + "\n")


def main(pause, *argv):
    config = config_lib.parse(list(argv))
    seed = config.seed
    if seed == REFUSED:
        raise UserError("There is no such thing: ask for another.")
    folder, stop = RunDirectory(config.logdir), StopSignal()
    folder.open(config)
    folder.keep_config(config)
    pointer = folder / "checkpoint" / "latest"
    start = int(pointer.read_text()) if pointer.exists() else 0
    if start:
        state = json.loads((folder / "checkpoint" / f"{start:012d}" / "state.json").read_text())
        assert (folder / "replay" / state["replay"][0]).read_text() == str(start), (
            "checkpoint and replay are of two times"
        )
    drop_after(folder.path, start)
    add(folder / "lives.jsonl", pid=os.getpid(), start=start, time=time.time(), cores=sorted(os.sched_getaffinity(0)))
    for step in range(start + 1, int(config.run.steps) + 1):
        time.sleep(float(pause))
        add(folder / "steps.jsonl", step=step, pid=os.getpid(), time=time.time())
        if step % 5 == 0:
            add(folder / "scores.jsonl", step=step, **{"episode/score": 1.0})
            checkpoint(folder.path, step)
        if stop():
            checkpoint(folder.path, step)
            return
        if seed == CRASHES and step == start + 3 or seed == CRASHES_ONCE and step == 7 and not start:
            raise RuntimeError("a wheel came off")
    add(folder / "scores.jsonl", step=int(config.run.steps), **{"eval/score": 2.0})


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        print(f"genreward_jax: {error}", file=sys.stderr)
        sys.exit(2)
