"""The page in a real browser: nothing goes wrong in it, its tables are there, and the cursor goes with the video."""

import json
import re
import shutil
import subprocess
from functools import partial

import numpy as np
import pytest

from genreward_jax.figures.score import score_picture
from genreward_jax.score import page as page_lib
from genreward_jax.video import read_frames
from tests.score.example import example, trajectory

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")


@pytest.fixture(scope="module")
def score():
    return example(seeds=3, length=40)


@pytest.fixture(scope="module")
def picture(score, tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "score.png"
    score_picture(path, score)
    return path.read_bytes()


@pytest.fixture(scope="module")
def file(score, picture, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "score.html"
    path.write_text(page_lib.page(score, picture))
    return path


def look(file, words: str = "", milliseconds: int = 3000) -> tuple[str, list[str]]:
    """The document after that time in the browser, and what its console said."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += [f"--user-data-dir={file.parent / 'profile'}", f"--virtual-time-budget={milliseconds}"]
    done = subprocess.run([*command, f"file://{file}#{words}"], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def cursor(document: str) -> tuple[int, float]:
    """The step that the cursor stands at, and its place."""
    found = re.search(r'<line id="cursor"[^>]*>', document)[0]
    return int(re.search(r'data-step="(\d+)"', found)[1]), float(re.search(r'x1="([\d.]+)"', found)[1])


@in_browser
def test_a_linked_moment_shows_tables_video_and_cursor_there(file, score):
    """The cursor's place is computed from the video's own time, so the browser has decoded and sought it."""
    document, said = look(file, "reward=fb_measure&behaviour=stop50&seed=1&step=30")
    assert not said
    for name in score.figures:
        assert document.count(f'<th scope="row">{name}</th>') == 2
    assert document.count("<path ") == 8  # all behaviours of that seed, the chosen one among them
    step, place = cursor(document)
    assert step == 30 and place == pytest.approx(62 + (745 - 62) * 30 / 40)
    index = next(i for i, t in enumerate(score.trajectories) if (t.behaviour, t.seed) == ("stop50", 1))
    value = float(f"{score.values['fb_measure'][index].every_step[30]:.5g}")
    assert f"Step 30 of 40: fb_measure {value:g}" in document


@in_browser
def test_the_cursor_moves_as_the_video_plays(file):
    start = cursor(look(file)[0])
    document, said = look(file, "play=1")
    moved = cursor(document)
    assert not said and start[0] == 0 and moved[0] > 10 and moved[1] > start[1]


@in_browser
def test_the_browser_does_tell_what_goes_wrong(file, tmp_path):
    """So an empty console means something."""
    broken = tmp_path / "broken.html"
    broken.write_text(file.read_text().replace('"use strict";', '"use strict"; nothing();'))
    assert look(broken)[1]


def test_no_network_and_no_markup_from_names(file):
    text = file.read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]*"', text) and "default-src 'none'" in text
    for address in re.findall(r"https?://[^\s\"']+", text):
        assert address == "http://www.w3.org/2000/svg"
    assert "<b>not markup</b>" not in text and "&lt;b&gt;not markup" in text
    assert "%TABLES%" not in text and text.count("</script>") == 2


def test_names_that_are_markup_stay_words(score, picture, monkeypatch):
    monkeypatch.setattr(page_lib, "encoded", lambda frames, fps: b"")
    name = "</script><script>alert(1)</script>"
    odd = partial(type(score), **{**vars(score), "values": {name: score.values["video"]}})
    text = page_lib.page(odd(figures={name: score.figures["video"]}), picture)
    assert "<script>alert" not in text and text.count("</script>") == 2


def test_episodes_are_shown_seed_by_seed_as_far_as_the_bytes_go(score, monkeypatch):
    monkeypatch.setattr(page_lib, "encoded", lambda frames, fps: bytes(100 + len(frames)))
    shown, videos = page_lib._chosen(score)
    chosen = [score.trajectories[i] for i in shown]
    assert len(videos) == len(shown) == 16 and {t.seed for t in chosen} == {0, 1}
    assert len({t.behaviour for t in chosen}) == 8
    monkeypatch.setattr(page_lib, "BUDGET", sum(map(len, videos[:2])))
    shown, videos = page_lib._chosen(score)
    assert len(shown) == 2
    assert page_lib._said_shown(score, shown).startswith(f"{len(shown)} of the 24 episodes")


def test_videos_are_what_the_episode_showed(tmp_path):
    frames = trajectory("expert", 0, 12).frames
    for scale in (1, 5):  # 64 pixels are enlarged, 320 made smaller
        (tmp_path / "a.mp4").write_bytes(page_lib.encoded(frames.repeat(scale, 1).repeat(scale, 2), 30.0))
        found = read_frames(tmp_path / "a.mp4")
        assert len(found) == 13 and page_lib.SMALL <= found.shape[1] <= page_lib.LARGE
        small = np.abs(found[:, ::1, ::1].astype(int).mean((1, 2)) - frames.astype(int).mean((1, 2)))
        assert small.max() < 4
    odd = page_lib.encoded(np.zeros((2, 201, 175, 3), np.uint8), 30.0)
    (tmp_path / "odd.mp4").write_bytes(odd)
    assert read_frames(tmp_path / "odd.mp4").shape == (2, 202, 176, 3)


def test_data_holds_every_step_and_the_paid_rows(file, score):
    data = json.loads(re.search(r'id="data">(.*?)</script>', file.read_text(), re.S)[1])
    one = data["episodes"][0]["values"]["video"]
    assert [step for step, _ in one["as_trained"]] == [16, 32] and len(one["every_step"]) == 41
    assert one["every_step"][0] is None
