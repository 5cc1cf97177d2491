"""What was learned beside what was scored: known orders give known correlations, and nothing is dropped in silence."""

import csv
import io
import json

import numpy as np
import pytest
from scipy import stats

from genreward_jax import study, study_scores
from genreward_jax.cli import study as verb
from genreward_jax.correlation import correlate
from genreward_jax.errors import UserError
from genreward_jax.study_scores import LEARNED, METRICS

AUC, STOP, TIME = METRICS[0], METRICS[2], "alignment/every_step/spearman_time"
REWARDS = {"sparse_random": "random", "sparse_genreward": "genreward", "sparse_genreward_plus": "genreward_plus"}
# Success that each condition reaches, in the order of the score's AUC below.
REACHED = {"sparse": 0.0, "sparse_random": 0.1, "sparse_genreward": 0.3, "sparse_genreward_plus": 0.5, "dense": 0.9}
SCORED = {"random": 0.5, "genreward": 0.6, "genreward_plus": 0.8, "env": 1.0}


def write_run(out, task, condition, success, seed=0, last=200):
    """A run's CSV: an evaluation at step 0 that must not count, then success and a return of 100 times that."""
    rows = [(0, "eval", 7.0, 7.0, 1.0), (150, "episode", 9.0, 9.0, 1.0)]
    rows += [(step, "eval", 100 * value, 0.0, value) for step, value in ((100, success - 0.1), (last, success + 0.1))]
    text = "# made up\n" + ",".join(study.COLUMNS) + "\n"
    text += "".join(f"{step},{kind},{score},{env},{done},128\n" for step, kind, score, env, done in sorted(rows))
    (out / task).mkdir(parents=True, exist_ok=True)
    (out / task / f"{condition}-seed{seed}.csv").write_text(text)


def write_score(folder, name, scored=SCORED, task=None):
    """A score in which AUC rises with ``scored``, the stop ladder falls, and order in time is always the same."""
    figure = lambda value: {"value": value, "low": None, "high": None}
    rewards = {
        reward: {metric: figure(0.25) for metric in METRICS} | {AUC: figure(value), STOP: figure(-value)}
        for reward, value in scored.items()
    }
    (folder / name).mkdir(parents=True, exist_ok=True)
    content = {"task": name if task is None else task, "rewards": rewards}
    (folder / name / "score.json").write_text(json.dumps(content))


@pytest.fixture
def made(tmp_path):
    """A study of two tasks, the second easier, whose agents do as the scores say: (scores, out)."""
    scores, out = tmp_path / "scores", tmp_path / "out"
    for task, easier in (("drawer_close", 0.0), ("handle_press_side", 0.4)):
        write_score(scores, task)
        for condition, success in REACHED.items():
            write_run(out, task, condition, success + easier)
        write_run(out, task, "none_genreward_plus", 0.5 + easier)
    return scores, out


def read_csv(out):
    return {
        (row["task"], row["condition"]): row for row in csv.DictReader(io.StringIO((out / "scores.csv").read_text()))
    }


def section(text, key):
    """A table of the page: a metric to its cells."""
    body = text.split(f"## {LEARNED[key]}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("| ")]
    return {line[0]: line[1:] for line in lines[1:]}


def test_rewards_that_taught_as_they_scored_correlate_fully_and_a_reversed_metric_the_other_way(made):
    scores, out = made
    text = study_scores.report(scores, out)
    assert (out / "scores.md").read_text() == text
    for key in ("success_gain", "return_gain"):
        table = section(text, key)
        assert table[AUC][:2] == ["10", "1.00"] and table[AUC][3:5] == ["2", "1.00"]
        assert table[STOP][1] == table[STOP][4] == "-1.00"
        assert table[AUC][2] == table[AUC][5] == "<0.001"
        assert table[TIME] == ["10", "-", "-", "2", "-", "-"]
    table = section(text, "success")
    assert float(table[AUC][1]) < 0.9 and table[AUC][4] == "1.00"  # which task is easy blurs the first only


def test_every_pair_is_a_line_with_means_over_evaluations_and_seeds(made):
    scores, out = made
    write_run(out, "drawer_close", "sparse_genreward", 0.5, seed=1)
    study_scores.report(scores, out)
    lines = read_csv(out)
    assert len(lines) == 10 and not [name for _, name in lines if name == "sparse"]
    line = lines["drawer_close", "sparse_genreward"]
    assert (line["reward"], line["seeds"]) == ("genreward", "2")
    assert float(line["success"]) == pytest.approx(0.4) and float(line["return"]) == pytest.approx(40)
    line = lines["handle_press_side", "none_genreward_plus"]
    assert (line["reward"], line["seeds"], float(line[AUC])) == ("genreward_plus", "1", 0.8)
    assert float(line["success_gain"]) == pytest.approx(0.5) and float(line["return_gain"]) == pytest.approx(50)
    assert lines["drawer_close", "dense"]["reward"] == "env"


def test_the_page_says_how_few_pairs_there_are_and_how_many_scores(made):
    text = study_scores.report(*made)
    assert "Only 10 pairs of a task and a condition, on 2 tasks, of 1 seed each." in text
    assert "beyond ±0.65 once in twenty times" in text and "there are 8 different ones" in text


def test_pairs_without_a_run_or_a_score_are_named(made):
    scores, out = made
    (out / "drawer_close" / "dense-seed0.csv").unlink()
    (out / "handle_press_side" / "sparse-seed0.csv").unlink()
    write_score(scores, "handle_press_side", {name: value for name, value in SCORED.items() if name != "random"})
    write_run(out, "reach", "dense", 0.5)
    write_run(out, "drawer_close", "own", 0.5)
    text = study_scores.report(scores, out)
    (line,) = [line for line in text.splitlines() if line.startswith("Left out:")]
    assert line == (
        "Left out: drawer_close/dense (no run); handle_press_side/sparse_random (no score of random); "
        "drawer_close/own (not in configs/study.yaml); reach/dense (no score)."
    )
    assert "without gains: handle_press_side." in text
    assert section(text, "success")[AUC][0] == "8" and section(text, "success_gain")[AUC][0] == "4"
    assert read_csv(out)["handle_press_side", "dense"]["success_gain"] == ""


def test_a_metric_that_single_scores_lack_costs_those_pairs_only_and_is_named(made):
    scores, out = made
    content = json.loads((scores / "handle_press_side" / "score.json").read_text())
    content["rewards"]["env"][AUC]["value"] = None
    (scores / "handle_press_side" / "score.json").write_text(json.dumps(content))
    text = study_scores.report(scores, out)
    assert f"Undefined, and left out of that correlation only: {AUC} (handle_press_side/dense)." in text
    assert [section(text, "success")[name][0] for name in (AUC, STOP)] == ["9", "10"]


def test_runs_of_other_lengths_are_named(made):
    scores, out = made
    write_run(out, "drawer_close", "dense", 0.9, seed=1, last=400)
    assert "The runs on drawer_close end at steps from 200 to 400" in study_scores.report(scores, out)


def test_correlations_are_scipys_with_ties_and_leave_undefined_numbers_out():
    rng = np.random.default_rng(3)
    values, outcomes = rng.integers(0, 5, 12).astype(float), rng.integers(0, 5, 12).astype(float)
    found = correlate(values, outcomes, ["a"] * 12)
    assert found.rho == pytest.approx(stats.spearmanr(values, outcomes).statistic)
    assert found.within == pytest.approx(found.rho) and found.tasks == 1
    assert found.p == pytest.approx(stats.spearmanr(values, outcomes).pvalue, abs=0.05)
    assert found.within_p == pytest.approx(found.p, abs=0.02)
    values[0], outcomes[1] = np.nan, np.nan
    found = correlate(values, outcomes, ["a"] * 12)
    assert found.pairs == 10 and found.rho == pytest.approx(stats.spearmanr(values[2:], outcomes[2:]).statistic)


def test_few_pairs_have_the_p_value_of_all_permutations_and_rounding_is_a_tie():
    found = correlate(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 3, 4]), list("aabb"))
    assert found.rho == 1 and found.p == pytest.approx(2 / 24)  # this order and the reversed one
    assert found.within == 1 and found.within_p == pytest.approx(2 / 4, abs=0.03)  # of two orders in each of two tasks
    rounded = correlate(np.array([0.3, 0.1 + 0.2, 0.3]), np.array([1.0, 2, 3]), list("aaa"))
    assert np.isnan(rounded.rho) and np.isnan(rounded.p)
    assert np.isnan(correlate(np.array([1.0, 2]), np.array([1.0, 2]), list("aa")).rho)


def test_within_tasks_a_task_that_is_easy_and_scored_high_says_nothing():
    values = np.array([1.0, 2, 3, 11, 12, 13])
    found = correlate(values, np.array([3.0, 2, 1, 13, 12, 11]), list("aaabbb"))
    assert found.rho > 0.4 and found.within == -1
    alone = correlate(np.append(values, 99), np.array([3.0, 2, 1, 13, 12, 11, 99]), list("aaabbbc"))
    assert (alone.pairs, alone.tasks, alone.within) == (7, 2, -1)  # a task with one pair has no order inside


def test_too_few_pairs_are_a_sentence_and_the_csv_is_there(tmp_path):
    write_score(tmp_path / "scores", "drawer_close")
    write_run(tmp_path / "out", "drawer_close", "dense", 0.5)
    with pytest.raises(UserError, match="Nothing can be correlated yet: there is 1 pair .* Left out: .*no run"):
        study_scores.report(tmp_path / "scores", tmp_path / "out")
    assert list(read_csv(tmp_path / "out")) == [("drawer_close", "dense")]
    assert "Nothing can be correlated yet" in (tmp_path / "out" / "scores.md").read_text()


def test_folders_without_scores_or_runs_are_sentences(made, tmp_path):
    scores, out = made
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"There is no <task>/score.json of a task in .*empty: make score"):
        study_scores.report(tmp_path / "empty", out)
    with pytest.raises(UserError, match="There is no CSV of a study in .*empty"):
        study_scores.report(scores, tmp_path / "empty")
    with pytest.raises(UserError, match="There is no CSV"):
        study_scores.report(scores, out, seeds=[7])


NO_NUMBER = json.dumps({"task": "reach", "rewards": {"env": {AUC: {"value": "x"}}}})


@pytest.mark.parametrize("text", ["", "[]", "{}", NO_NUMBER])
def test_a_file_that_is_no_score_is_named(made, text):
    scores, out = made
    (scores / "reach").mkdir()
    (scores / "reach" / "score.json").write_text(text)
    with pytest.raises(UserError, match=r"reach/score.json is no score that make score wrote"):
        study_scores.report(scores, out)


def test_two_scores_of_a_task_are_refused_and_one_without_a_task_is_named(made):
    scores, out = made
    write_score(scores, "mine", task="")
    assert "mine/score.json is of given episodes" in study_scores.report(scores, out)
    write_score(scores, "again", task="drawer_close")
    with pytest.raises(UserError, match="are both of the task 'drawer_close'"):
        study_scores.report(scores, out)


def test_the_verb_trains_nothing_and_takes_tasks_and_conditions(made, monkeypatch, capsys):
    scores, out = made
    monkeypatch.setattr(study, "carry_out", lambda *_: pytest.fail("it trained"))
    assert verb.run(["--scores", str(scores), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("# Did `make score` know beforehand?") and said.endswith(f"are in {out}.\n")
    conditions = list(REWARDS)
    argv = ["--scores", str(scores), "--out", str(out), "--tasks", "drawer_close", "--conditions", *conditions]
    assert verb.run(argv) == 0
    assert "Left out" not in capsys.readouterr().out
    lines = read_csv(out)
    assert {name: line["reward"] for (_, name), line in lines.items()} == REWARDS
    assert float(lines["drawer_close", "sparse_random"]["success_gain"]) == pytest.approx(
        0.1
    )  # over sparse all the same
