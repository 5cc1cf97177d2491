"""Run directories and checkpoints: whole or not at all, one owner, no pickle."""

import json
import subprocess
import sys

import elements
import numpy as np
import pytest

from genreward_jax import loggers, provenance
from genreward_jax.checkpoint import Checkpoint
from genreward_jax.config import parse
from genreward_jax.errors import UserError
from genreward_jax.evaluation import episodes
from genreward_jax.rundir import RunDirectory, default_logdir


def config(*flags):
    return parse(["--preset", "smoke", *flags])


def test_the_default_folder_names_the_run():
    assert default_logdir(config("--seed", "3")) == "runs/shelf_place/dense/genreward/seed3"


def test_a_folder_is_locked_against_other_processes(tmp_path):
    folder = RunDirectory(str(tmp_path / "run"))
    assert folder.open(config()) is False
    code = (
        "import sys; from genreward_jax.rundir import RunDirectory; from genreward_jax.config import parse\n"
        "from genreward_jax.errors import UserError\n"
        "try: RunDirectory(sys.argv[1]).open(parse(['--preset', 'smoke']))\n"
        "except UserError as error: print(error); sys.exit(2)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2 and "in use by process" in refused.stdout, refused.stderr
    folder.close()
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_what_may_change_and_what_may_not(tmp_path):
    folder = RunDirectory(str(tmp_path))
    folder.open(config())
    folder.keep_config(config())
    folder.close()
    free = "--run.steps 900 --eval.every 7 --bridge.threads 2 --script parallel"
    assert folder.open(config(*free.split())) is True
    folder.close()
    with pytest.raises(UserError, match="reward.alpha: 0.01 -> 0.5"):
        folder.open(config("--reward.alpha", "0.5"))


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="holds files but no run"):
        RunDirectory(str(tmp_path)).open(config())
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_that_could_not_start_leaves_nothing(tmp_path):
    folder = RunDirectory(str(tmp_path / "run"))
    folder.open(config())
    folder.keep_config(config())
    (folder / "replay").mkdir()
    folder.discard()
    folder.close()
    assert not (tmp_path / "run").exists()


def test_a_run_that_was_there_is_never_discarded(tmp_path):
    folder = RunDirectory(str(tmp_path))
    folder.open(config())
    folder.keep_config(config())
    folder.close()
    assert folder.open(config()) is True
    folder.discard()
    folder.close()
    assert folder.config_file.exists()


def test_another_goal_is_told_by_its_content(tmp_path):
    folder = RunDirectory(str(tmp_path))
    (tmp_path / "goal").mkdir()
    (tmp_path / "goal" / "goal.json").write_text(json.dumps({"digest": "a" * 24}))
    folder.check_goal("a" * 24, config())
    with pytest.raises(UserError, match="trained for another goal"):
        folder.check_goal("b" * 24, config())


class Replay:
    """A replay of upstream's kind as far as a checkpoint sees it: chunks by name, files in a folder."""

    class Chunk:
        def __init__(self, name, length):
            self.filename, self.length = name, length

    def __init__(self, directory):
        directory.mkdir(exist_ok=True)
        self.directory, self.chunks, self.loaded = directory, {}, None

    def save(self):
        for chunk in self.chunks.values():
            if chunk.length:
                (self.directory / chunk.filename).write_bytes(b"x")

    def load(self):
        self.loaded = sorted(file.name for file in self.directory.glob("*.npz"))


def make(tmp_path):
    replay, counter = Replay(tmp_path / "replay"), elements.Counter()
    agent = {}

    def save_agent(folder):
        (folder / "agent").write_text(str(agent["value"]))

    def load_agent(folder):
        agent["value"] = int((folder / "agent").read_text())

    return (
        Checkpoint(tmp_path / "checkpoint", save_agent, load_agent, replay, None, {"n": counter}),
        replay,
        counter,
        agent,
    )


def test_a_checkpoint_brings_back_agent_counters_and_its_own_chunks(tmp_path):
    checkpoint, replay, counter, agent = make(tmp_path)
    assert checkpoint.load() is None
    replay.chunks = {1: Replay.Chunk("a.npz", 3), 2: Replay.Chunk("empty.npz", 0)}
    agent["value"] = 7
    counter.increment(5)
    checkpoint.save(5)
    (tmp_path / "replay" / "later.npz").write_bytes(b"written after, by a process that was killed")
    again, replay, counter, agent = make(tmp_path)
    assert again.load() == 5
    assert (agent["value"], int(counter), replay.loaded) == (7, 5, ["a.npz"])


def test_a_newer_checkpoint_replaces_the_older_and_what_the_replay_dropped(tmp_path):
    checkpoint, replay, _, agent = make(tmp_path)
    replay.chunks, agent["value"] = {1: Replay.Chunk("a.npz", 3)}, 1
    checkpoint.save(5)
    replay.chunks = {2: Replay.Chunk("b.npz", 3)}
    checkpoint.save(6)
    assert sorted(x.name for x in (tmp_path / "checkpoint").iterdir()) == ["000000000006", "latest"]
    assert [x.name for x in (tmp_path / "replay").iterdir()] == ["b.npz"]


def test_a_save_that_is_interrupted_leaves_the_checkpoint_before(tmp_path):
    checkpoint, replay, _, agent = make(tmp_path)
    agent["value"] = 1
    checkpoint.save(5)
    checkpoint.save_agent = lambda folder: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(6)
    again, _, _, agent = make(tmp_path)
    assert again.load() == 5 and agent["value"] == 1


def test_a_damaged_checkpoint_is_a_sentence(tmp_path):
    checkpoint, _, _, agent = make(tmp_path)
    agent["value"] = 1
    (checkpoint.save(5) / "state.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load()


def test_logs_of_steps_that_are_done_again_are_dropped(tmp_path):
    log = loggers.JSONLines(tmp_path / "scores.jsonl", loggers.SCORES)
    values = [(step, "episode/score", np.asarray(float(step))) for step in (1, 2, 3)]
    log([*values, (3, "train/loss", np.asarray(1.0)), (3, "episode/length", np.asarray(np.nan))])
    assert [row["step"] for row in loggers.read_scores(tmp_path)] == [1, 2, 3]
    assert "train/loss" not in (tmp_path / "scores.jsonl").read_text()
    with (tmp_path / "scores.jsonl").open("a") as file:
        file.write('{"step": 4, "episode/sc')  # cut off by a kill
    loggers.drop_after(tmp_path, 2)
    assert [row["step"] for row in loggers.read_scores(tmp_path)] == [1, 2]


def test_each_evaluation_episode_is_kept_beside_their_mean(tmp_path):
    """The paper's spread is over episodes: it cannot be had from means. metrics.jsonl stays a file of scalars."""
    played = [episodes.Episode(score=1.5, success=1.0), episodes.Episode(score=3.5)]  # the second does not say
    logger = loggers.make_logger(tmp_path, (), "name")
    logger.add({**episodes.summary(played), **episodes.each(played)})
    logger.close()
    (row,) = loggers.read_scores(tmp_path)
    assert row["eval/each_score"] == [1.5, 3.5] and row["eval/score"] == 2.5
    assert row["eval/each_success"] == [1.0, None]
    assert "each" not in (tmp_path / "metrics.jsonl").read_text()


def test_a_run_says_once_what_each_of_its_starts_ran_on(tmp_path, monkeypatch):
    provenance.keep(tmp_path)
    provenance.keep(tmp_path)
    (first,) = provenance.read(tmp_path)
    assert first["machine"] == provenance.machine()
    monkeypatch.setattr(provenance, "commit", lambda: "abcdef0")
    provenance.keep(tmp_path)
    assert [start["commit"] for start in provenance.read(tmp_path)] == [first["commit"], "abcdef0"]
    (tmp_path / "provenance.json").write_text("{")
    assert provenance.read(tmp_path) == []


def test_an_unknown_logger_output_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="no logger output 'tensorbord'"):
        loggers.make_logger(tmp_path, ("tensorbord",), "name")


def test_tensorboard_is_written_without_torch_in_the_process(tmp_path):
    program = f"""
import pathlib, sys
from genreward_jax import loggers
logger = loggers.make_logger(pathlib.Path({str(tmp_path)!r}), ("tensorboard",), "name")
logger.add({{"train/loss": 3.5}})
logger.write()
logger.close()
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stderr
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"train/loss" in events.read_bytes()


def test_a_damaged_configuration_is_one_sentence(tmp_path):
    (tmp_path / "config.yaml").write_text("task: x\nreward: [\n")
    with pytest.raises(UserError, match="config.yaml is damaged .*: restore it, or name another run") as error:
        RunDirectory(str(tmp_path)).saved_config()
    assert "\n" not in str(error.value)
