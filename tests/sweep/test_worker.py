"""One attempt at a run, without Ray: what a training's end means, where its files are, what it ends with."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from genreward_jax.sweep import launch
from genreward_jax.sweep.board import Board
from genreward_jax.sweep.child import environment, reason
from genreward_jax.sweep.plan import is_done
from genreward_jax.sweep.storage import Store
from genreward_jax.sweep.worker import Terms, attempt
from tests.sweep.stood import check_whole, jobs, standin

LEASE_S = 3.0


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Another folder for temporary files: a machine of its own."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def terms(out, pause_s=0.01):
    return Terms(str(out), os.getcwd(), LEASE_S, 1, 0, {}, standin(pause_s))


def call_of(board):
    return lambda method, *arguments: getattr(board, method)(*arguments)


def when(condition, then):
    """Does something in another thread once a condition holds."""

    def wait():
        end = time.time() + 60
        while not condition() and time.time() < end:
            time.sleep(0.02)
        then()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_run_that_ends_is_finished_and_is_not_trained_again(tmp_path):
    (job,) = jobs(0)
    assert attempt(job, terms(tmp_path), call_of(Board(LEASE_S))).kind == "finished"
    assert is_done(tmp_path / job.name, job)
    board = Board(LEASE_S)
    outcome = attempt(job, terms(tmp_path), call_of(board))
    assert (outcome.kind, outcome.step) == ("finished", 20) and not board.look(False)[job.name]["running"]
    assert len(check_whole(tmp_path / job.name, 20)) == 1
    assert "standin.py" in (tmp_path / "logs" / "reach__dense__none__seed0.log").read_text()


def test_a_users_mistake_is_told_in_the_trainings_own_words(tmp_path):
    (job,) = jobs(92)
    outcome = attempt(job, terms(tmp_path), call_of(Board(LEASE_S)))
    assert (outcome.kind, outcome.why) == ("refused", "There is no such thing: ask for another.")


def test_a_crash_is_told_by_its_last_line_and_the_next_attempt_goes_on(tmp_path):
    (job,) = jobs(90)
    outcome = attempt(job, terms(tmp_path), call_of(Board(LEASE_S)))
    assert outcome.kind == "failed" and "exit code 1 (RuntimeError: a wheel came off)" in outcome.why
    assert str(tmp_path / "logs") in outcome.why
    assert attempt(job, terms(tmp_path), call_of(Board(LEASE_S))).kind == "finished"
    assert [life["start"] for life in check_whole(tmp_path / job.name, 20)] == [0, 5]


def test_told_to_stop_a_training_saves_and_is_gone_on_with(tmp_path):
    (job,), board = jobs(0, steps=200), Board(LEASE_S)
    when((tmp_path / job.name / "checkpoint" / "latest").exists, lambda: board.look(True))
    outcome = attempt(job, terms(tmp_path, 0.02), call_of(board))
    assert outcome.kind == "stopped" and 5 < outcome.step < 200
    assert Store(tmp_path / job.name).step() == outcome.step  # and not the last that is a multiple of five
    assert attempt(job, terms(tmp_path), call_of(Board(LEASE_S))).kind == "finished"
    check_whole(tmp_path / job.name, 200)


def test_a_folder_that_the_nodes_do_not_share_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("genreward_jax.sweep.worker.SEEN_S", 0.5)
    (job,), mark = jobs(0), tmp_path / "sweep.json"
    marked = dataclasses.replace(terms(tmp_path), mark="sweep.json")
    outcome = attempt(job, marked, call_of(Board(LEASE_S)))
    assert outcome.kind == "refused" and "name one that all nodes share, or a URL" in outcome.why
    assert not (tmp_path / "reach").exists()
    when(lambda: time.sleep(0.1) is None, mark.touch)
    assert attempt(job, marked, call_of(Board(LEASE_S))).kind == "finished"


def test_behind_a_url_a_run_moves_to_another_machine(tmp_path, scratch, monkeypatch):
    """Stopped by a crash on one machine, gone on with on another, whose scratch folder holds an older life of it."""
    (job,), url = jobs(90), f"file://{tmp_path}/store"
    outcome = attempt(job, terms(url), call_of(Board(LEASE_S)))
    assert outcome.kind == "failed" and f"{url}/logs/reach__dense__none__seed90.log" in outcome.why
    assert "a wheel came off" in (tmp_path / "store" / "logs" / "reach__dense__none__seed90.log").read_text()
    assert Store(f"{url}/{job.name}").step() == 5
    assert not [file for file in scratch.rglob("*") if file.is_file()]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    assert attempt(job, terms(url), call_of(Board(LEASE_S))).kind == "finished"
    assert is_done(f"{url}/{job.name}", job)
    assert [life["start"] for life in check_whole(tmp_path / "store" / job.name, 20)] == [0, 5]
    replay = [file.name for file in (tmp_path / "store" / job.name / "replay").iterdir()]
    assert replay == ["chunk20.npz"]


def test_behind_a_url_checkpoints_go_up_while_it_trains(tmp_path, scratch):
    (job,), url, seen = jobs(0, steps=60), f"file://{tmp_path}/store", []
    store = Store(f"{url}/{job.name}")
    when(lambda: 0 < store.step() < 60, lambda: seen.append(store.step()))
    assert attempt(job, terms(url, 0.05), call_of(Board(LEASE_S))).kind == "finished"
    assert seen and store.step() == 60


WORKER = """
import os, sys
from genreward_jax.sweep.board import Board
from genreward_jax.sweep.worker import attempt
from tests.sweep.stood import jobs
from tests.sweep.test_worker import terms
board, out, silent_after = Board(3.0), sys.argv[1], float(sys.argv[2])
(job,) = jobs(0, steps=400)
def call(method, *arguments):
    if board.entries and board.entries[job.name].step > silent_after:
        raise TimeoutError
    return getattr(board, method)(*arguments)
print(attempt(job, terms(out, 0.05), call))
"""


def start(out, silent_after=1e9):
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(out), str(silent_after)],
        cwd=root,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )


def trainings(worker):
    return [child for child in psutil.Process(worker.pid).children() if "standin.py" in " ".join(child.cmdline())]


@pytest.fixture
def steps_file(tmp_path):
    return tmp_path / "reach" / "dense" / "none" / "seed0" / "steps.jsonl"


def wait_for(condition, limit=60):
    end = time.time() + limit
    while not condition():
        assert time.time() < end
        time.sleep(0.05)


def test_a_training_ends_with_its_worker(tmp_path, steps_file):
    worker = start(tmp_path)
    wait_for(steps_file.exists)
    (training,) = trainings(worker)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    psutil.wait_procs([training], timeout=20)
    assert not training.is_running()


def test_a_worker_without_answers_ends_its_training_and_itself(tmp_path, steps_file):
    """A node that Ray believes dead must not train on beside the run's next attempt."""
    worker = start(tmp_path, silent_after=3)
    wait_for(steps_file.exists)
    (training,) = trainings(worker)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 1 and "nobody has answered for 3 s" in said
    assert not training.is_running() and 3 < len(steps_file.read_text().splitlines()) < 400


def test_a_run_directory_that_is_still_locked_is_waited_for(tmp_path, steps_file):
    worker = start(tmp_path)
    wait_for(steps_file.exists)
    (training,) = trainings(worker)
    when(lambda: time.sleep(4) is None, training.kill)  # later than the next one has started
    (job,) = jobs(0, steps=400)
    outcome = attempt(job, terms(tmp_path, 0), call_of(Board(LEASE_S)))
    worker.communicate()
    assert outcome.kind == "finished", outcome
    check_whole(tmp_path / job.name, 400)


def test_runs_on_one_machine_take_cores_of_their_own(tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    code = f"import sys; sys.path[:] = [{os.path.dirname(launch.__file__)!r}] + sys.path\nimport launch, os, pathlib\n"
    code += f"print(launch.take_cores(1, pathlib.Path({str(tmp_path)!r})), flush=True); input()\n"
    code += "print(sorted(os.sched_getaffinity(0)), flush=True)"
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(len(cores) + 1)
    ]
    try:
        taken = [eval(run.stdout.readline()) for run in runs]
        one_each = [[core] for core in cores] if len(cores) > 1 else [[]]
        assert sorted(filter(None, taken)) == [core for core in one_each if core], "the last one finds none free"
        rest = [eval(run.communicate("\n")[0]) for run in runs]
        assert rest == [took or cores for took in taken]
    finally:
        for run in runs:
            run.kill()


def test_a_share_of_a_gpu_is_a_share_of_its_memory(monkeypatch):
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    monkeypatch.setenv("MUJOCO_GL", "egl")
    env = environment({"MUJOCO_GL": "osmesa", "WANDB_MODE": "offline"}, 0.25, 0.15)
    assert env["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.200" and env["WANDB_MODE"] == "offline"
    assert env["MUJOCO_GL"] == "egl", "what a node says of itself goes first"
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in environment({}, 1, 0.15)


def test_why_a_training_ended(tmp_path):
    log = tmp_path / "log"
    log.write_text("genreward_jax: an old one\n\n$ train\ngenreward_jax: It holds\n  task: a -> b\n")
    assert reason(log, 2) == "It holds task: a -> b"
    assert reason(log, -9) == "it was killed by SIGKILL, as where memory runs out"
    assert reason(tmp_path / "none", 3) == "it ended with exit code 3"
