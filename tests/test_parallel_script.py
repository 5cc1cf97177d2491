"""``--script parallel`` on real Meta-World: the same rows, rewards, logs and checkpoints as in turn, from environments
that do not wait for each other."""

import json
import signal

import numpy as np
import psutil
import pytest

from genreward_jax import parts
from genreward_jax.config import parse
from genreward_jax.errors import UserError
from tests.test_end_to_end import INTERVAL, checkpoint_step, start, steps_of, wait_for

ENVS, STEPS = 3, 420
PARALLEL = f"--script parallel --run.envs {ENVS} --run.actor_batch 2 --eval.every 150".split()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run that is stopped by SIGTERM, goes on and ends."""
    logdir = tmp_path_factory.mktemp("parallel") / "run"
    process = start(logdir, *PARALLEL)
    wait_for(lambda: len(steps_of(logdir)) >= 4, process, "four episodes")
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    stopped_at = checkpoint_step(logdir)
    process = start(logdir, *PARALLEL)
    output, _ = process.communicate(timeout=800)
    assert process.returncode == 0, output
    return {"logdir": logdir, "said": said, "stopped_at": stopped_at, "output": output, "children": children}


def streams(logdir):
    """The rows of each environment's stream in a run's replay: chunks linked by their successors' names."""
    chunks, follows = {}, set()
    for file in (logdir / "replay").glob("*.npz"):
        _, uuid, successor, _ = file.stem.split("-")
        chunks[uuid] = (successor, dict(np.load(file)))
        follows.add(successor)
    for head in chunks.keys() - follows:
        linked = []
        while head in chunks:
            head, rows = chunks[head]
            linked.append(rows)
        yield {key: np.concatenate([rows[key] for rows in linked]) for key in linked[0]}


def test_it_stops_goes_on_and_ends(run):
    assert "Stopped by SIGTERM and saved" in run["said"] and "Traceback" not in run["said"] + run["output"]
    assert f"continued at step {run['stopped_at']}" in run["output"]
    assert not [child for child in run["children"] if child.is_running()]
    assert not [file for file in run["logdir"].rglob("*") if file.suffix in (".pkl", ".pickle")]


def test_every_step_is_stored_once_and_trained_on_at_the_ratio(run):
    state = json.loads((run["logdir"] / "checkpoint" / f"{STEPS:012d}" / "state.json").read_text())
    found = list(streams(run["logdir"]))
    assert len(found) == 2 * ENVS  # before the stop and after it
    assert sum(int((~rows["is_first"]).sum()) for rows in found) == state["counters"]["step"] == STEPS
    trained_from = 64 + ENVS * 16  # a batch of sequences of 17 rows must be there
    assert state["counters"]["updates"] == pytest.approx((STEPS - trained_from) / 8, abs=4)


def test_evaluations_stand_where_they_are_due(run):
    """Curves of several seeds are drawn over common steps."""
    rows = [json.loads(line) for line in (run["logdir"] / "scores.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "eval/score" in row] == [0, 150, 300, STEPS]


def test_every_reward_is_at_its_row(run):
    """Eq. 10 at reward steps, r_env elsewhere, in each environment's own count of steps."""
    paid_fb = 0
    for rows in streams(run["logdir"]):
        step = np.zeros(len(rows["reward"]), int)
        for t in range(1, len(step)):
            step[t] = 0 if rows["is_first"][t] else step[t - 1] + 1
        np.testing.assert_array_equal(np.isfinite(rows["reward_video"]), (step > 0) & (step % INTERVAL == 0))
        paid_fb += int(np.isfinite(rows["reward_fb"]).sum())
        added = 0.5 * np.nan_to_num(rows["reward_video"]) + 0.25 * np.nan_to_num(rows["reward_fb"])
        np.testing.assert_allclose(rows["reward"], rows["reward_env"] + added, rtol=1e-5, atol=1e-6)
    assert paid_fb >= 3


def test_logs_pass_upstreams_actor(run):
    rows = [json.loads(line) for line in (run["logdir"] / "metrics.jsonl").read_text().splitlines()]
    successes = [row["episode/success"] for row in rows if "episode/success" in row]
    assert len(successes) >= STEPS // 40 - 2 * ENVS and np.isfinite(successes).all()
    assert any("parallel/server/actor/jobs" in row for row in rows)


@pytest.mark.parametrize("flags", ["--run.deterministic True", "--run.debug True", "--run.actor_batch 4"])
def test_what_does_not_go_with_it_is_refused(flags):
    with pytest.raises(UserError, match=flags.split()[0]):
        parts.check(parse(["--preset", "smoke", *PARALLEL, *flags.split()]))
