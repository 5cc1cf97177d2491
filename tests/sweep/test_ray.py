"""The whole on a Ray of its own: what is retried and what not, a node that is killed, Ctrl-C, and real trainings."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from genreward_jax.sweep import cluster, plan
from genreward_jax.sweep.board import Board
from genreward_jax.sweep.run import run_jobs
from genreward_jax.sweep.worker import Terms, attempt
from tests.sweep.stood import check_whole, jobs, lines, standin

ROOT = Path(__file__).resolve().parents[2]
OBJECTS = 80_000_000
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}


@pytest.fixture
def two_nodes(monkeypatch):
    """A local cluster of two nodes with a CPU each, named by RAY_ADDRESS; gives what kills the second."""
    from ray.cluster_utils import Cluster

    for name, value in cluster.QUIET.items():
        os.environ.setdefault(name, value)
    node = {"num_cpus": 1, "object_store_memory": OBJECTS, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={**node, "_system_config": QUICK})
    other = made.add_node(**node)
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    try:
        yield lambda: made.remove_node(other, allow_graceful=False)
    finally:
        made.shutdown()


def kill_when_both_train(out, kill):
    """Kills a node once two runs have a checkpoint that is not their last."""
    killed = threading.Event()

    def watch():
        while len([file for file in Path(out).rglob("steps.jsonl") if len(lines(file)) >= 12]) < 2:
            time.sleep(0.1)
        kill()
        killed.set()

    threading.Thread(target=watch, daemon=True).start()
    return killed


def test_a_node_is_killed_in_the_middle_and_every_run_is_there_once(two_nodes, tmp_path):
    wanted, said = jobs(0, 1, 2, steps=40), []
    killed = kill_when_both_train(tmp_path, two_nodes)
    results = run_jobs(wanted, tmp_path, resources={"num_cpus": 1}, command=standin(0.15), lease_s=4, say=said.append)
    assert killed.is_set() and results == {job.name: "finished" for job in wanted}
    lives = [check_whole(tmp_path / job.name, 40) for job in wanted]
    gone_on = [run for run in lives if len(run) > 1]
    assert len(gone_on) == 1 and [life["start"] for life in gone_on[0]][1:] >= [10]
    assert any("goes on" in line for line in said) and said[-1].startswith("3 done (of 3); 100%"), said
    spans = [
        (life["time"], last(tmp_path / job.name, life)) for job, run in zip(wanted, lives, strict=True) for life in run
    ]
    for begun, _ in spans:
        assert sum(start <= begun <= end for start, end in spans) <= 2, "a node's one CPU went to two runs"
    twice = {file.parent for file in tmp_path.rglob("config.yaml")}
    assert twice == {tmp_path / job.name for job in wanted}


def last(folder, life):
    return max(row["time"] for row in lines(folder / "steps.jsonl") if row["pid"] == life["pid"])


def train(job, out):
    """A run without Ray."""
    board = Board(10)
    terms = Terms(str(out), str(ROOT), 10, 1, 0, {}, standin(0))
    return attempt(job, terms, lambda method, *arguments: getattr(board, method)(*arguments))


def test_what_fails_is_retried_what_is_refused_is_not_and_the_rest_goes_on(tmp_path):
    wanted, said = jobs(0, 90, 91, 92), []
    names = {int(job.name.rpartition("seed")[2]): job.name for job in wanted}
    settings = {"resources": {"num_cpus": 1}, "command": standin(0), "retries": 1, "say": said.append}
    assert train(wanted[0], tmp_path).kind == "finished"
    results = run_jobs(wanted, tmp_path, **settings)
    assert said[0] == "1 of 4 runs are finished already."
    assert results[names[0]] == results[names[90]] == "finished"
    assert results[names[91]].startswith("failed: it ended with exit code 1 (RuntimeError: a wheel came off)")
    assert results[names[92]] == "failed: There is no such thing: ask for another."
    assert len(check_whole(tmp_path / names[0], 20)) == 1, "a finished run was trained again"
    assert len(check_whole(tmp_path / names[90], 20)) == 2
    assert len(lines(tmp_path / names[91] / "lives.jsonl")) == 2, "once, and one retry"
    refused = (tmp_path / "logs" / f"{names[92].replace('/', '__')}.log").read_text()
    assert refused.count("There is no such thing") == 1
    assert not (tmp_path / "sweep.json").exists()


SWEEP = """
import sys
from genreward_jax.cli.sweep import conclude
from genreward_jax.sweep.board import Board
from genreward_jax.sweep.run import run_jobs
from genreward_jax.sweep.worker import Terms, attempt
from tests.sweep.stood import jobs, standin
if __name__ == "__main__":
    out, pause = sys.argv[1], sys.argv[2]
    results = run_jobs(jobs(0, 1, 2, steps=50), out, resources={"num_cpus": 1}, command=standin(pause), at_once=2)
    sys.exit(conclude(results, out))
"""


def start(*arguments, **settings):
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], cwd=ROOT, env={**env, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, **settings,
    )  # fmt: skip


def test_ctrl_c_lets_them_save_and_the_same_command_goes_on(tmp_path):
    script, out = tmp_path / "sweep_command.py", tmp_path / "out"
    script.write_text(SWEEP)
    command = start(script, out, 0.1)
    while not list(out.rglob("latest")):
        assert command.poll() is None, command.stdout.read()
        time.sleep(0.1)
    os.killpg(command.pid, signal.SIGINT)  # as a terminal does
    said, _ = command.communicate(timeout=60)
    assert command.returncode == 130, said
    assert "Ctrl-C: the trainings save and end" in said and "3 of 3 runs unfinished; the same command goes on." in said
    assert "Traceback" not in said
    saved = [int(file.read_text()) for file in out.rglob("latest")]
    made = [max(row["step"] for row in lines(file)) for file in out.rglob("steps.jsonl")]
    assert sorted(saved) == sorted(made), "a training was cut off after its last checkpoint"
    again = start(script, out, 0)
    said, _ = again.communicate(timeout=60)
    assert again.returncode == 0 and "All 3 runs are finished" in said, said
    for job in jobs(0, 1, 2, steps=50):
        check_whole(out / job.name, 50)


TINY = """
tasks: [drawer_close]
methods: none
seeds: [0, 1]
preset: smoke
flags: {run.steps: 80, run.prefill: 20, eval.every: 0, env.metaworld.length: 16, run.plots: false}
resources: {num_cpus: 1}
"""


def test_two_real_trainings_by_the_command(tmp_path):
    file, out = tmp_path / "tiny.yaml", tmp_path / "out"
    file.write_text(TINY)
    command = start("-m", "genreward_jax", "sweep", file, "--out", f"file://{out}", "--retries", "0")
    said, _ = command.communicate(timeout=240)
    assert command.returncode == 0 and "2 done (of 2); 100% of all steps" in said, said
    sweep = plan.read_sweep(file)
    for job in sweep.jobs():
        assert plan.is_done(out / job.name, job)
        rows = [json.loads(line) for line in (out / job.name / "scores.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows if "eval/score" in row] == [0, 80]
        assert len([row for row in rows if "episode/score" in row]) == 5
    again = start("-m", "genreward_jax", "sweep", file, "--out", f"file://{out}")
    said, _ = again.communicate(timeout=60)
    assert again.returncode == 0 and said.startswith("2 of 2 runs are finished already."), said
