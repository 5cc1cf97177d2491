"""The learning study: what is run in which order, what becomes of a run that stops, and what its CSV says."""

import json
import subprocess

import numpy as np
import pytest

from genreward_jax import config, study
from genreward_jax.errors import UserError
from genreward_jax.figures.study import stacked, study_curves
from genreward_jax.parts import check


def scores(logdir, steps):
    """What a run leaves: a training episode and an evaluation at each of these steps."""
    logdir.mkdir(parents=True, exist_ok=True)
    with (logdir / "scores.jsonl").open("a") as file:
        for step in steps:
            row = {"episode/score": step / 10, "episode/success": 0.0, "episode/length": 128.0}
            file.write(json.dumps({"step": step - 1, **row}) + "\n")
            row = {"eval/score": float(step), "eval/score_env": 1.5, "eval/success": 0.5, "eval/length": 128.0}
            file.write(json.dumps({"step": step, **row}) + "\n")


class Trainer:
    """Stands in for the training process: what it leaves, and how it ends, run by run."""

    def __init__(self, *outcomes):
        self.outcomes, self.calls = list(outcomes), []

    def __call__(self, command, **_):
        if "--logdir" not in command:  # the CSV's line about the commit
            return subprocess.CompletedProcess(command, 0, stdout="0123456+\n")
        logdir, (steps, code) = command[command.index("--logdir") + 1], self.outcomes.pop(0)
        self.calls.append(logdir)
        scores(study.Path(logdir), steps)
        return subprocess.CompletedProcess(command, code)


def test_the_first_seed_of_everything_comes_first_and_every_command_is_one_that_train_takes():
    runs = study.plan()
    listed = config.read_yaml("study")
    assert len(runs) == len(listed["conditions"]) * len(listed["tasks"]) * len(listed["seeds"])
    first = [run for run in runs if run.seed == listed["seeds"][0]]
    assert runs[: len(first)] == first
    for run in first:
        flags = config.parse(run.command(study.Path("x"))[1:])
        check(flags)
        assert flags.task == f"metaworld_{run.task}" and int(flags.run.steps) == run.steps
        assert flags.method == listed["conditions"][run.condition]["method"]
        assert flags.env.metaworld.reward == listed["conditions"][run.condition]["env.metaworld.reward"]


def test_a_stopped_study_goes_on_with_the_run_that_has_no_csv(tmp_path, monkeypatch):
    runs = study.plan(["reach"], ["dense", "sparse"], [0], steps=200)
    trainer = Trainer(([100, 200], 0), ([100], 0))  # the second is stopped politely at its half
    monkeypatch.setattr(study.subprocess, "run", trainer)
    with pytest.raises(KeyboardInterrupt):
        study.carry_out(runs, tmp_path / "work", tmp_path / "out", str)
    assert [file.name for file in (tmp_path / "out" / "reach").iterdir()] == ["dense-seed0.csv"]
    trainer.outcomes = [([200], 0)]
    study.carry_out(runs, tmp_path / "work", tmp_path / "out", str)
    assert [study.Path(call).name for call in trainer.calls] == ["dense-seed0", "sparse-seed0", "sparse-seed0"]
    curves = study.read(tmp_path / "out")
    assert list(curves) == [("reach", "dense", 0), ("reach", "sparse", 0)]
    rows = curves["reach", "sparse", 0]
    assert [(row["step"], row["kind"]) for row in rows] == [
        (99, "episode"),
        (100, "eval"),
        (199, "episode"),
        (200, "eval"),
    ]
    assert rows[1]["score"] == 100.0 and rows[1]["success"] == 0.5 and np.isnan(rows[0]["score_env"])


def test_a_failed_training_is_a_sentence_and_keeps_the_others(tmp_path, monkeypatch):
    runs = study.plan(["reach"], ["dense", "sparse"], [0], steps=200)
    monkeypatch.setattr(study.subprocess, "run", Trainer(([200], 0), ([100], 2)))
    with pytest.raises(UserError, match="reach/sparse-seed0 ended with exit code 2"):
        study.carry_out(runs, tmp_path / "work", tmp_path / "out", str)
    assert list(study.read(tmp_path / "out")) == [("reach", "dense", 0)]


def test_a_csv_says_what_made_it_and_a_foreign_one_is_refused(tmp_path):
    (run,) = study.plan(["reach"], ["dense"], [0], steps=200)
    scores(tmp_path / "run", [200])
    text = study.table(run, tmp_path / "run", study.curve(tmp_path / "run"))
    first, second, third = text.splitlines()[:3]
    assert first.startswith("# python -m genreward_jax train --task metaworld_reach --preset cpu --seed 0")
    assert second.startswith("# commit ") and "cores" in second and third == ",".join(study.COLUMNS)
    (tmp_path / "reach").mkdir()
    (tmp_path / "reach" / "dense-seed0.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="is no CSV of a study"):
        study.read(tmp_path)


def test_of_a_step_that_was_evaluated_twice_the_last_counts(tmp_path):
    """A run that was stopped before its first checkpoint begins again."""
    scores(tmp_path / "run", [200])
    with (tmp_path / "run" / "scores.jsonl").open("a") as file:
        file.write('{"step": 200, "eval/score": 7.0}\n')
    evaluated = [row for row in study.curve(tmp_path / "run") if row["kind"] == "eval"]
    assert [(row["step"], row["score"]) for row in evaluated] == [(200, 7.0)]


def test_unknown_conditions_are_refused_with_the_nearest():
    with pytest.raises(UserError, match="no condition 'spars'.*sparse"):
        study.plan(conditions=["spars"])


def test_curves_are_drawn_over_the_steps_that_all_seeds_have(tmp_path):
    row = lambda step, score: {"step": step, "kind": "eval", "score": score, "success": 0.0}
    curves = {
        ("reach", "dense", 0): [row(0, 1.0), row(10, 3.0), row(20, 9.0)],
        ("reach", "dense", 1): [row(0, 2.0), row(10, 5.0)],
    }
    steps, values = stacked(curves, "reach", "dense", "score")
    np.testing.assert_array_equal(steps, [0, 10])
    np.testing.assert_array_equal(values, [[1, 3], [2, 5]])
    study_curves(tmp_path / "curves.png", curves)
    assert (tmp_path / "curves.png").stat().st_size > 10_000
