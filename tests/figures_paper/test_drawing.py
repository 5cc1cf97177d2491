"""What is drawn is what the runs hold: files, captions, marks, and nothing in place of what is missing."""

import csv
import json
import re
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from genreward_jax import __main__ as program
from genreward_jax import provenance
from genreward_jax.config import read_yaml
from genreward_jax.errors import UserError
from genreward_jax.figures import style
from genreward_jax.goals import load_goal
from genreward_jax.paper_figures import curves, pictures, plan, reproduce, runs, sheet, table
from genreward_jax.paper_figures.caption import caption
from genreward_jax.paper_figures.match import match
from genreward_jax.paper_figures.statistics import Curve
from tests.figures_paper.conftest import flags, write_run, write_videos

EPISODES = {0: [1.0, 2.0], 300: [30.0, 10.0], 600: [50.0, 150.0]}


def call(monkeypatch, capsys, *argv) -> tuple[int, str, str]:
    """Exit code and output of ``python -m genreward_jax``."""
    monkeypatch.setattr(sys, "argv", ["genreward_jax", *map(str, argv)])
    code = program.main()
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    """Dense on both tasks with two seeds, GenReward on one task with one: half of Figure 5."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        for task in ("bin_picking", "shelf_place"):
            scaled = {step: [(1 + seed) * value for value in values] for step, values in EPISODES.items()}
            write_run(folder / f"{task}{seed}", *flags(task, seed=seed), returns=scaled)
    write_run(folder / "genreward", *flags(method="genreward"), returns=EPISODES)
    for name in ("bin_picking0", "genreward"):
        write_videos(folder / name)
    return folder


def rows(file) -> list[dict]:
    return list(csv.DictReader(file.read_text().splitlines()))


def test_a_figure_is_drawn_from_what_is_there_and_the_rest_is_said(some, plan_file, tmp_path, monkeypatch, capsys):
    given = ("figures", "--figure", "5", "--runs", some, "--out", tmp_path, "--plan", plan_file)
    code, out, _ = call(monkeypatch, capsys, *given)
    assert code == 0 and "3 runs are missing" in out and "make reproduce FIGURE=5 PRESET=smoke RUNS=" in out
    assert f"FLAGS='--plan {plan_file}'" in out  # the command that makes them reads the same plan
    assert len(re.findall(r"^    python -m genreward_jax train .*--logdir", out, re.M)) == 3
    for ending in ("png", "pdf"):
        assert (tmp_path / f"figure_5.{ending}").stat().st_size > 10_000
    caption = (tmp_path / "figure_5.txt").read_text()
    for part in ("2 seeds, 600 environment steps", "Plumbing and not methods", "stratified bootstrap", "cores, ",
                 "3 runs missing and nothing put in their place (3 of GenReward)", "drawn at commit"):  # fmt: skip
        assert part in caption, part
    drawn = rows(tmp_path / "figure_5.csv")
    lines = {(row["task"], row["line"], row["statistic"]) for row in drawn}
    assert ("shelf_place", "GenReward", "mean") not in lines and ("bin_picking", "GenReward", "mean") in lines
    assert {row["line"] for row in drawn if row["statistic"] == "iqm"} == {"Dense"}  # GenReward lacks a task
    (end,) = [row for row in drawn if (row["task"], row["line"], row["key"], row["step"])
              == ("bin_picking", "Dense", "return", "600")]  # fmt: skip
    pooled = np.array([50, 150, 100, 300])
    assert float(end["middle"]) == pooled.mean() and float(end["high"]) == pytest.approx(
        pooled.mean() + pooled.std(), rel=1e-4
    )
    episodes = rows(tmp_path / "figure_5_episodes.csv")
    assert len(episodes) == 5 * 6 and {row["return"] for row in episodes} >= {"150", "300"}


def test_a_flat_line_is_flat_and_a_missing_one_leaves_no_colour(some, plan_file):
    planned = plan.read(plan_file)
    matched = match(planned, replace(planned.figure("5"), printed={}), runs.find(some))
    matched.runs = {cell: there for cell, there in matched.runs.items() if cell[1] == "Dense"}
    picture, groups = curves.draw(matched, [])
    picture.canvas.draw()
    pixels = np.asarray(picture.canvas.buffer_rgba())[..., :3].astype(int)
    blue = np.array([int(style.MARK[i : i + 2], 16) for i in (1, 3, 5)])
    where = np.argwhere((np.abs(pixels - blue) < 6).all(-1))
    height = len(pixels)
    assert len(where) and (where[:, 0] > 0.5 * height).all()  # the legend says it is missing; no panel has it
    (axes,) = [each for each in picture.axes if each.get_title(loc="left") == "Shelf Place"]
    (line,) = axes.lines
    assert line.get_ydata().tolist() == pytest.approx([2.25, 30, 150])
    assert groups[0][1][2].title == "interquartile mean, 2 tasks"


def test_the_papers_end_points_are_marks_or_words(some, plan_file):
    planned = plan.read(plan_file)
    matched = match(planned, planned.figure("5"), runs.find(some))
    picture, _ = curves.draw(matched, [])
    (axes,) = [each for each in picture.axes if each.get_title(loc="left") == "Bin Picking"]
    words = {text.get_text() for text in axes.texts}
    assert {"paper 398", "paper 822"} <= words and axes.get_ylim()[1] > 822
    for run in matched.all:
        for evaluation in run.evaluations:
            evaluation.returns[:] /= 100
    picture, _ = curves.draw(matched, [])
    (axes,) = [each for each in picture.axes if each.get_title(loc="left") == "Bin Picking"]
    (text,) = axes.texts
    assert "far above" in text.get_text() and "GenReward 822" in text.get_text() and axes.get_ylim()[1] < 100


def test_seeds_that_share_no_step_are_said_and_no_traceback(plan_file, tmp_path, monkeypatch, capsys):
    for seed, step in enumerate((300, 600)):
        write_run(tmp_path / "runs" / str(seed), *flags(seed=seed), returns={step: [1.0]})
    given = ("figures", "--figure", "5", "--runs", tmp_path / "runs", "--out", tmp_path, "--plan", plan_file)
    assert call(monkeypatch, capsys, *given)[0] == 0
    caption = (tmp_path / "figure_5.txt").read_text()
    assert "No mean is drawn where seeds share no evaluation step: Dense on bin picking" in caption
    assert rows(tmp_path / "figure_5.csv") == [] and len(rows(tmp_path / "figure_5_episodes.csv")) == 2


def test_the_caption_tells_step_0_apart_and_that_marks_may_be_words(plan_file, tmp_path):
    write_run(tmp_path / "a", *flags(), returns={0: [1.0], 300: [1.0, 2.0, 3.0], 600: [2.0, 3.0, 4.0]})
    planned = plan.read(plan_file)
    said = "\n".join(curves.said(match(planned, planned.figure("5"), runs.find(tmp_path))))
    assert "over 3 evaluation episodes (1 at step 0), of the environment's dense reward" in said
    assert "triangles, or words where the curves are far below: what the paper prints" in said


def test_the_caption_says_what_stands_in_for_a_papers_model(tmp_path):
    """Each sentence once, of the methods that are drawn, and only where the run had such a model."""
    own = plan.read()
    words = lambda: "\n".join(caption(own, match(own, own.figure("5"), runs.find(tmp_path))))
    write_run(tmp_path / "dense", *flags(), returns=EPISODES)
    assert "papers' models" not in words()
    for method in ("genreward", "genreward_plus", "roboclip", "diffusion_reward"):
        write_run(tmp_path / method, *flags(method=method), returns=EPISODES)
    said = words()
    assert "Not the papers' models: " in said and said.count("GenReward's CogVideoX, OpenCLIP and DINOv3") == 1
    assert "RoboCLIP's S3D is the mean" in said and "Diffusion Reward's VQ" in said and "TADPoLe's" not in said
    shutil.rmtree(tmp_path / "roboclip")
    write_run(tmp_path / "s3d", *flags(method="roboclip"), "--model.video_text", "s3d", returns=EPISODES)
    assert "S3D" not in words()
    for method in ("genreward", "genreward_plus", "s3d", "diffusion_reward"):
        shutil.rmtree(tmp_path / method)
    write_run(tmp_path / "large", *flags(method="genreward"), "--model.family", "a/folder", returns=EPISODES)
    assert "papers' models" not in words()


def test_every_method_with_a_papers_model_says_what_stands_in_for_it():
    methods = read_yaml("methods")
    assert [name for name, entry in methods.items() if not entry.get("stands_in")] == ["none", "random"]
    assert all(isinstance(entry.get("stands_in", ""), str) for entry in methods.values())


def test_a_method_has_one_colour_everywhere():
    own = plan.read()
    for name in ("5", "7", "9"):
        for group in own.figure(name).groups:
            chosen = curves.colours(group, "smoke")
            assert len(set(chosen.values())) == len(chosen)
            plain = [line.label for line in group.lines if plan.settings(line, "smoke")[::2] == ("genreward", ())]
            assert [chosen[label] for label in plain] == [style.MARK]


def test_strips_show_the_episode_and_say_where_there_is_none(some, plan_file, tmp_path, monkeypatch, capsys):
    given = ("figures", "--figure", "6", "--runs", some, "--out", tmp_path, "--plan", plan_file)
    assert call(monkeypatch, capsys, *given)[0] == 0
    dense, genreward = rows(tmp_path / "figure_6.csv")
    assert dense["shown"] == "0 1 2 3 5 6 7 8" and dense["frames"] == "9" and float(dense["return"]) == 50
    picture = np.asarray(Image.open(tmp_path / "figure_6.png").convert("L"))
    assert (np.abs(picture.astype(int) - 40) < 4).sum() > 5000  # the first frame's shade
    alone = tmp_path / "alone"
    write_run(alone / "run", *flags(), returns=EPISODES)
    code, out, _ = call(monkeypatch, capsys, *given[:3], "--runs", alone, "--out", tmp_path, "--plan", plan_file)
    (dense, genreward) = rows(tmp_path / "figure_6.csv")
    assert code == 0 and dense["shown"] == "" and genreward["run"] == "" and "1 run is missing" in out


def test_a_film_of_make_eval_has_its_own_return_or_none(tmp_path):
    run = write_run(tmp_path / "run", *flags(), returns=EPISODES)
    write_videos(run)
    (found,) = runs.find(tmp_path)
    assert pictures.earned(found) == pictures.Earned(600, 50, 0)
    played = run / "eval" / "000000000600"
    played.mkdir(parents=True)
    (run / "videos" / "episode.mp4").rename(played / "episode_000.mp4")
    assert pictures.earned(found) == pictures.Earned()
    first = {"score": 7.5, "success": 1.0}
    (played / "results.json").write_text(json.dumps({"step": 500, "episodes": [first, {"score": 9.0}]}))
    assert pictures.earned(found) == pictures.Earned(500, 7.5, 1)


def test_the_second_best_frame_has_its_own_goal_and_curve(some, plan_file, tmp_path, monkeypatch, capsys):
    second = tmp_path / "runs" / "second"
    write_run(second, *flags(method="genreward"), "--goal.rank", "2", returns=EPISODES)
    write_videos(second)
    write_run(tmp_path / "runs" / "best", *flags(method="genreward"), returns=EPISODES)
    write_videos(tmp_path / "runs" / "best")
    given = ("figures", "--figure", "A", "--runs", tmp_path / "runs", "--out", tmp_path, "--plan", plan_file)
    assert call(monkeypatch, capsys, *given)[0] == 0
    assert {row["line"] for row in rows(tmp_path / "figure_A.csv")} == {"best", "second"}
    frames = rows(tmp_path / "figure_A_frames.csv")
    assert len(frames) == 18 and [row["rank"] for row in frames if row["chosen"] == "1"] == ["1", "1"]


def test_a_run_without_scores_is_left_out_and_said(plan_file, tmp_path, monkeypatch, capsys):
    write_run(tmp_path / "runs" / "dense", *flags(), returns=EPISODES)
    write_run(tmp_path / "runs" / "begun", *flags(method="genreward"), returns={})
    given = ("figures", "--figure", "5", "--runs", tmp_path / "runs", "--out", tmp_path, "--plan", plan_file)
    code, out, _ = call(monkeypatch, capsys, *given)
    assert code == 0 and f"no evaluation in scores.jsonl yet: {tmp_path / 'runs' / 'begun'}" in out
    assert "without an evaluation yet: 1 run" in (tmp_path / "figure_5.txt").read_text()
    assert {row["line"] for row in rows(tmp_path / "figure_5.csv")} == {"Dense"}


def break_config(run, old, new):
    file = run / "config.yaml"
    file.write_text(file.read_text().replace(old, new))


DAMAGES = {
    "seed": ("config.yaml has the seed", lambda run: break_config(run, "seed: 0", "seed: abc")),
    "task": ("config.yaml has the seed", lambda run: break_config(run, "metaworld_bin_picking", "foo")),
    "scores": (
        "scores.jsonl is damaged",
        lambda run: (run / "scores.jsonl").write_text('{"step": "x", "eval/score": 1}\n'),
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_run_is_a_sentence(name, plan_file, tmp_path, monkeypatch, capsys):
    sentence, damage = DAMAGES[name]
    damage(write_run(tmp_path / "runs" / "one", *flags(method="genreward"), returns=EPISODES))
    given = ("figures", "--figure", "5", "--runs", tmp_path / "runs", "--out", tmp_path / "out", "--plan", plan_file)
    code, _, said = call(monkeypatch, capsys, *given)
    assert code == 2 and sentence in said and len(said.strip().splitlines()) == 1


@pytest.mark.parametrize("text", ["{", "{}", "[3]"])
def test_a_damaged_goal_is_a_sentence(text, tmp_path):
    write_videos(tmp_path)
    (tmp_path / "goal" / "goal.json").write_text(text)
    with pytest.raises(UserError, match="goal.json is damaged"):
        load_goal(tmp_path / "goal")


def test_provenance_of_another_form_is_none(tmp_path):
    for text in ("[3]", "{", '{"commit": "x"}'):
        (tmp_path / "provenance.json").write_text(text)
        assert provenance.read(tmp_path) == []


def test_wrong_input_is_a_sentence_and_exit_code_2(some, plan_file, tmp_path, monkeypatch, capsys):
    own = ("--plan", plan_file, "--out", tmp_path / "out")
    write_run(tmp_path / "unscored" / "run", *flags(), returns={})
    for said, *argv in (
        ("There is no figure '11'", "--figure", "11", "--runs", some),
        ("has no scores", "--figure", "5", "--runs", tmp_path / "unscored"),
        ("There is no folder", "--figure", "5", "--runs", tmp_path / "nowhere"),
        ("not from 's3://b/x'", "--figure", "5", "--runs", "s3://b/x"),
        ("none of its runs", "--figure", "9", "--runs", tmp_path / "out"),
        ("no preset 'large'", "--figure", "5", "--runs", some, "--preset", "large"),
    ):
        (tmp_path / "out").mkdir(exist_ok=True)
        code, _, err = call(monkeypatch, capsys, "figures", *argv, *own)
        assert code == 2 and said in err and err.count("\n") == 1, err
        assert not list((tmp_path / "out").iterdir())
    code, _, err = call(monkeypatch, capsys, "reproduce", *own)
    assert code == 2 and "Which figure?" in err


def test_a_folder_that_cannot_be_made_is_a_sentence_before_the_work(some, plan_file, tmp_path, monkeypatch, capsys):
    file = tmp_path / "afile"
    file.touch()
    monkeypatch.setattr(curves, "write", lambda *_: pytest.fail("it has drawn"))
    monkeypatch.setattr(reproduce, "make_up", lambda *_: pytest.fail("it has trained"))
    own = ("--figure", "5", "--runs", some, "--plan", plan_file)
    for argv in (
        ("figures", *own, "--out", file),
        ("figures", *own, "--out", file / "deeper"),
        ("reproduce", *own, "--preset", "smoke", "--out", file),
        ("report", "--runs", some, "--plan", plan_file, "--out", file / "report.html"),
    ):
        code, _, err = call(monkeypatch, capsys, *argv)
        assert code == 2 and "afile" in err and "cannot be read or written" in err and err.count("\n") == 1, err
    code, _, err = call(monkeypatch, capsys, "report", "--runs", tmp_path / "nowhere")
    assert code == 2 and "There is no folder" in err and not (tmp_path / "nowhere").exists()


def test_what_fails_while_it_is_written_is_a_sentence_and_leaves_no_empty_folder(tmp_path):
    with pytest.raises(UserError, match="out cannot be read or written .No space left"), sheet.into(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert not (tmp_path / "out").exists()
    with sheet.into(tmp_path / "out"):
        sheet.write(tmp_path / "out" / "figure", ".txt", "words")
    assert (tmp_path / "out" / "figure.txt").read_text() == "words"


def test_all_figures_at_once_go_on_past_one_that_cannot_be_drawn(some, plan_file, tmp_path, monkeypatch, capsys):
    given = ("figures", "--runs", some, "--out", tmp_path, "--plan", plan_file)
    monkeypatch.setattr(curves, "write", lambda matched, stem, words: [stem])  # other tests draw curves
    code, out, _ = call(monkeypatch, capsys, *given)
    assert code == 0 and f"Figure 5: {tmp_path / 'figure_5'}" in out and (tmp_path / "figure_6.png").exists()
    assert "It has no goal videos yet: name them in" in out
    (some / "genreward" / "goal" / "goal.json").rename(tmp_path / "kept")
    code, out, err = call(monkeypatch, capsys, *given)
    (tmp_path / "kept").rename(some / "genreward" / "goal" / "goal.json")
    assert code == 2 and "Figure A: not drawn" in out and "1 of 5 figures could not be drawn" in err


def test_the_table_is_the_registrys(tmp_path):
    methods = {
        "none": {"rewards": []},
        "mine": {"properties": {"generative": False, "expert_free": "yes", "action_aware": "no", "goal": "text"}},
        "genreward": {"properties": {"generative": "yes", "expert_free": "yes", "action_aware": True, "model": "M"}},
    }
    found = table.rows(methods)
    assert [row[:5] for row in found] == [
        ["GenReward", "genreward", "yes", "yes", "yes"], ["mine", "mine", "yes", "no", "no"],
    ]  # fmt: skip
    assert "| mine | `mine` | yes | no | no | text |  |  |" in table.markdown(found)
    with pytest.raises(Exception, match="declares its `properties`"):
        table.rows({"none": {}})


def line(*values):
    return Curve(np.arange(len(values)), np.array(values, float), np.array([]), np.array([]), 1, np.ones(len(values)))


def test_a_line_beneath_others_is_told_and_drawn_wider():
    nan = float("nan")
    lines = {"a": line(0, 5, nan), "b": line(0, 10, nan), "c": line(0.05, 5, nan), "d": line(0, 5), "e": line(0, 5, 1)}
    assert curves.covered_by(lines) == {"a": 1, "b": 0, "c": 0, "d": 0, "e": 0}
    assert curves.covered_by({}) == {} and curves.covered_by({"a": line(0, 0), "b": line(0, 0)}) == {"a": 1, "b": 0}
