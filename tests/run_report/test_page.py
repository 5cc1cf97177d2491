"""The page of a folder of runs in a real browser: no script error, no broken link, and numbers under the pointer."""

import base64
import json
import re
import shutil

import numpy as np
import pytest

from genreward_jax.errors import UserError
from genreward_jax.paper_figures import plan as plan_lib
from genreward_jax.run_report import content
from genreward_jax.run_report import page as page_lib
from genreward_jax.video import read_frames
from tests.figures_paper.conftest import PLAN, flags, write_run, write_videos
from tests.score.test_page import in_browser, look

RETURNS = {0: [1.0, 2.0], 300: [30.0, 10.0], 600: [50.0, 150.0]}
POINTER = """
<script>
const svg = document.querySelector(".panel svg"), where = svg.getBoundingClientRect();
const at = (x, y) => ({ clientX: where.left + x * where.width / 480, clientY: where.top + y * where.height / 268 });
svg.dispatchEvent(new PointerEvent("pointermove", at(456, 20)));
</script></body>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two seeds of Dense, one run of GenReward with another alpha, one that has begun, and a score.json."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        scaled = {step: [(1 + seed) * value for value in values] for step, values in RETURNS.items()}
        write_run(folder / f"dense{seed}", *flags(seed=seed), returns=scaled)
    write_run(folder / "<b>odd", *flags(method="genreward"), "--reward.alpha", "0.5", returns=RETURNS)
    write_run(folder / "begun", *flags("shelf_place"), returns={})
    for name in ("dense0", "<b>odd"):
        write_videos(folder / name)
    figures = {"ranking/every_step/auc_expert_vs_random": {"value": 0.9, "low": 0.8, "high": 1.0}}
    score = {
        "task": "bin_picking",
        "goal": "a video",
        "controls": ["random"],
        "rewards": {"video": figures, "random": {}},
    }
    (folder / "score.json").write_text(json.dumps(score))
    return folder


@pytest.fixture(scope="module")
def report(folder, tmp_path_factory):
    file = tmp_path_factory.mktemp("plan") / "figures.yaml"
    file.write_text(PLAN)
    return content.gather(folder, plan_lib.read(file))


@pytest.fixture(scope="module")
def file(report, tmp_path_factory):
    return page_lib.write(report, tmp_path_factory.mktemp("page") / "report.html")


def broken_links(text: str, folder) -> list[str]:
    """What the page points to and is not there: anchors, files beside it, data that is empty."""
    bad = []
    for target in re.findall(r'(?:href|src)="([^"]*)"', text):
        if target.startswith("#"):
            bad += [target] * (f'id="{target[1:]}"' not in text)
        elif target.startswith("data:"):
            bad += [target[:60]] * (len(base64.b64decode(target.split(",", 1)[1])) < 100)
        else:
            bad += [target] * (not (folder / target).is_file())
    return bad


@in_browser
def test_it_opens_without_an_error_and_draws_every_curve(file):
    document, said = look(file)
    assert not said
    assert len(re.findall(r'<path class="mean"', document)) == 2  # Dense and GenReward on Bin Picking
    assert len(re.findall(r'<path class="seed"', document)) == 2  # the two seeds of Dense
    assert document.count('class="panel"') == 2 and document.count("<video ") == 4
    assert "%" + "CURVES" + "%" not in document


@in_browser
def test_the_pointer_finds_the_numbers(file, tmp_path):
    """The highest end on the right is seed 1 of Dense: 100 and 300, half a success rate above 100."""
    copy = tmp_path / "hovered.html"
    copy.write_text(file.read_text().replace("</body>", POINTER))
    document, said = look(copy)
    assert not said
    tip = re.search(r'<div class="tip"[^>]*>([^<]*)<', document)[1]
    assert tip == "none, seed 1: step 600, return 200, success 50 %"
    assert 'class="mean faded"' in document


@in_browser
def test_the_browser_does_tell_what_goes_wrong(file, tmp_path):
    wrong = tmp_path / "wrong.html"
    wrong.write_text(file.read_text().replace('"use strict";', '"use strict"; nothing();'))
    assert look(wrong)[1]
    unsafe = tmp_path / "network.html"
    unsafe.write_text(file.read_text().replace("</body>", '<img src="http://127.0.0.1:9/x.png"></body>'))
    assert any("Content Security Policy" in line for line in look(unsafe)[1])


def test_no_link_is_broken_and_nothing_needs_a_network(file):
    text = file.read_text()
    assert broken_links(text, file.parent) == []
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    assert "<b>odd" not in text and "&lt;b&gt;odd" in text
    cut = text.replace('id="run-1"', 'id="run-x"')
    assert broken_links(cut, file.parent) == ["#run-1"]  # so an empty list means something


def test_it_tells_states_settings_scores_and_what_is_missing(file, report):
    text = file.read_text()
    assert [content.state(run) for run in report.runs] == ["finished", "no scores yet", "finished", "finished"]
    assert "<th>reward.alpha</th><td>0.5</td><td>0.01</td>" in text
    assert "100.0 ± 50.0" in text and "200.0 ± 100.0" in text
    assert "0.90 (0.80 to 1.00)" in text and '<tr class="control"><th scope="row">random</th>' in text
    assert "1 run without scores:" in text and "2 runs without a video of an episode" in text
    assert [missing.figure for missing in report.missing] == ["5", "10", "A", "9"]
    five = next(missing for missing in report.missing if missing.figure == "5")
    assert five.commands and all("--logdir" in command for command in five.commands)
    assert "the commands" in text and "no goal video" in text


def test_means_are_over_the_seeds(report):
    line = next(line for line in report.lines if line.label == "none" and line.task == "bin_picking")
    assert line.mean() == [[0, 2.25, 0.0], [300, 30.0, 0.0], [600, 150.0, 0.5]]


def test_a_goal_file_goes_by_its_name_and_two_of_one_name_stay_two_lines(tmp_path):
    for number, place in enumerate(("a", "b")):
        goal = ("--goal.source", f"/somewhere/{place}/fork.mp4")
        write_run(tmp_path / place, *flags(method="genreward", seed=number), *goal, returns=RETURNS)
    lines = content.lines_of(content.find(tmp_path))
    assert [line.label for line in lines] == ["genreward, source fork.mp4"] * 2
    assert [len(line.runs) for line in lines] == [1, 1]


def test_large_videos_are_copied_beside_the_page(report, tmp_path, monkeypatch):
    monkeypatch.setattr(page_lib, "BUDGET", 1000)
    path = page_lib.write(report, tmp_path / "large.html")
    text = path.read_text()
    assert broken_links(text, tmp_path) == []
    names = set(re.findall(r'src="(large_files/[^"]*)"', text))
    assert names and all(len(read_frames(tmp_path / name)) == 9 for name in names)
    monkeypatch.undo()
    page_lib.write(report, path)  # all inside: nothing of the other stays
    assert not (tmp_path / "large_files").exists()


@in_browser
def test_copied_videos_are_loaded_from_beside_the_page(report, tmp_path, monkeypatch):
    monkeypatch.setattr(page_lib, "BUDGET", 1000)
    path = page_lib.write(report, tmp_path / "large.html")
    document, said = look(path)
    assert not said and "large_files/" in document


def test_wrong_input_is_a_sentence(tmp_path):
    plan = plan_lib.read()
    with pytest.raises(UserError, match="no run under"):
        content.gather(tmp_path, plan)
    with pytest.raises(UserError, match="no folder"):
        content.gather(tmp_path / "nowhere", plan)


def test_a_damaged_score_is_left_out(folder, tmp_path):
    shutil.copy(folder / "score.json", tmp_path / "score.json")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "score.json").write_text("{")
    assert [path.parent for path, _ in content.scores_of(tmp_path)] == [tmp_path]


def test_numbers_are_json():
    assert content.number(np.nan) is None and content.number(1 / 3) == 0.33333
