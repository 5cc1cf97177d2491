"""Several scores in one table: means, extremes, what is missing, and mistakes."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from genreward_jax.cli import score as verb
from genreward_jax.errors import UserError
from genreward_jax.score import across

RANDOM = "ranking/every_step/auc_expert_vs_random"
SHARE = "agent/as_trained/share_by_size"


def put(folder, task, rewards, goal="a video", seeds=(0, 1), discrimination=None):
    """A score.json as make score writes it, so far as it is read here."""
    folder.mkdir(parents=True)
    figures = {name: {metric: _figure(v) for metric, v in given.items()} for name, given in rewards.items()}
    about = {"task": task, "goal": goal, "commit": "abcdef123", "seeds": list(seeds), "controls": ["pixels"]}
    (folder / "score.json").write_text(
        json.dumps({**about, "rewards": figures, "discrimination": discrimination or {}})
    )


def _figure(value):
    return {"value": value, "low": None, "high": None} if value is None else {"value": value, "low": 0.0, "high": 1.0}


@pytest.fixture
def scores(tmp_path):
    put(tmp_path / "one", "reach", {"pixels": {RANDOM: 0.5, SHARE: 0}, "video": {RANDOM: 0.9, SHARE: 2e-6}})
    put(tmp_path / "b" / "two", "push", {"pixels": {RANDOM: 0.7, SHARE: 0.2}, "video": {RANDOM: None, SHARE: 2e-6}})
    put(tmp_path / "three", "", {"video": {RANDOM: 0.6}}, goal="another", seeds=(0, 0, 1))
    return tmp_path


def test_means_and_extremes_over_the_tasks_that_have_the_figure(scores):
    found = across.read(scores)
    assert found.rewards == ["video", "pixels"] and sorted(found.tasks) == ["push", "reach", "three"]
    lines = across.markdown(found).splitlines()
    assert "| video | 0.75 (0.60 to 0.90) |" in lines
    assert "| pixels (control) | 0.60 (0.50 to 0.70) |" in lines
    assert (
        "| video | <0.001 % (<0.001 % to <0.001 %) |" in lines and "| pixels (control) | 10 % (0 % to 20 %) |" in lines
    )
    assert "Mean over 3 tasks" in lines[0] and "2 seeds each" in lines[0] and "abcdef1" in lines[0]
    assert "a video; another" in lines[0] or "another; a video" in lines[0]


def test_the_command_writes_and_prints_it(scores, capsys):
    assert verb.run(["--across", str(scores)]) == 0
    assert "0.75 (0.60 to 0.90)" in capsys.readouterr().out
    rows = list(csv.DictReader((scores / "across.csv").open()))
    values = {(r["task"], r["reward"]): r["value"] for r in rows if r["metric"] == RANDOM}
    assert values["reach", "video"] == "0.9" and values["push", "video"] == ""
    intervals = {(r["task"], r["reward"], r["metric"]): (r["low"], r["high"]) for r in rows}
    assert intervals["reach", "video", SHARE] == ("0", "1") and intervals["push", "video", RANDOM] == ("", "")
    assert (scores / "across.md").read_text() == across.markdown(across.read(scores))
    picture = np.asarray(Image.open(scores / "across.png").convert("RGB"))
    assert picture.std() > 10


def test_single_columns_make_one_matrix_of_goals(tmp_path):
    for task, column in (("reach", [3, 1, 9]), ("push", [2, 4, 9])):
        matrix = {"goals": ["reach", "push", "other"], "tasks": [task], "every_step": [[x] for x in column]}
        put(tmp_path / task, task, {"video": {RANDOM: 1}}, discrimination={"video": matrix})
    put(tmp_path / "alone", "door", {"video": {RANDOM: 1}})
    found = across.read(tmp_path)
    assert found.tasks == ("door", "push", "reach")
    np.testing.assert_array_equal(found.confusion["video"], [[np.nan] * 3, [np.nan, 4, 1], [np.nan, 2, 3]])
    assert [path.name for path in across.write(tmp_path, found)][-2:] == ["across_goals.csv", "across_goals.png"]
    rows = list(csv.DictReader((tmp_path / "across_goals.csv").open()))
    assert {"reward": "video", "goal": "push", "task": "reach", "every_step": "1"} in rows and len(rows) == 9
    assert np.asarray(Image.open(tmp_path / "across_goals.png").convert("RGB")).std() > 10


def test_mistakes_are_sentences(scores):
    with pytest.raises(UserError, match="holds no score.json"):
        across.read(scores / "nowhere")
    put(scores / "four", "reach", {})
    with pytest.raises(UserError, match="reach more than once"):
        across.read(scores)
    (scores / "four" / "score.json").write_text("[]")
    with pytest.raises(UserError, match="is no score of make score"):
        across.read(scores)
