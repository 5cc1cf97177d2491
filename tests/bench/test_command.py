"""``bench``: what it writes, and that a part that fails is said and counts. .ci/run measures with items 1 to 5."""

import io
import json
import subprocess
import sys
import time
from unittest.mock import Mock

import pytest

from genreward_jax.bench.figures import Figure, Item
from genreward_jax.cli import bench
from genreward_jax.errors import UserError


@pytest.mark.parametrize(
    "argv, said",
    [
        (["--items", "9"], "no item 9"),
        (["--quick", "--full"], "not allowed"),
        (["--child", "99"], "invalid choice: '99'"),
        (["--", "--no.flag", "1"], "no flag"),
        (["--", "--method", "none"], "sets --method itself"),
        (["--", "--run.envs=4"], "sets --run.envs itself"),
        (["--", "--patches.*", "False"], r"sets --patches\.\* itself"),
        (["--", "--seed", "1", "--preset", "smoke"], "sets --preset itself"),
    ],
)
def test_wrong_flags_are_a_sentence(argv, said, tmp_path):
    with pytest.raises(UserError, match=said):
        bench.run(["--out", str(tmp_path), *argv])
    assert not list(tmp_path.iterdir())


def test_an_item_is_measured_in_a_process_of_its_own_and_written_down(tmp_path, capsys):
    """Item 4 for real, on one window and two; the flags after -- reach it."""
    assert bench.run(["--quick", "--items", "4", "--out", str(tmp_path), "--", "--bridge.threads", "1"]) == 0
    report = json.loads((tmp_path / "bench.json").read_text())
    known = {"date", "commit", "machine", "cpu", "gpu", "memory", "seed", "versions", "scale"}
    assert known <= report.keys() and report["versions"]["jax"] and report["memory"] > 1e8
    figures = {figure["name"]: figure for figure in report["items"]["4"]["figures"]}
    for figure in figures.values():
        several = len(figure["values"]) > 1
        assert (figure["least"] is not None) == (figure["largest"] is not None) == several
        assert not several or figure["least"] <= figure["median"] <= figure["largest"]
    (handed,) = (figure for name, figure in figures.items() if "hand-over" in name)
    assert handed["note"] == "same address"
    assert {path.name for path in tmp_path.iterdir()} == {"bench.json", "bench.md"}
    assert "windows at once" in capsys.readouterr().out


def test_a_part_that_fails_is_said_and_the_others_are_kept(tmp_path, capsys):
    code = bench.run(["--quick", "--items", "4", "--out", str(tmp_path), "--", "--model.family", "/nowhere"])
    said = capsys.readouterr().err
    assert code == 2 and "Item 4 failed" in said and "/nowhere" in said
    assert "/nowhere" in (tmp_path / "item4.log").read_text()
    assert json.loads((tmp_path / "bench.json").read_text())["items"] == {}


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_folder_that_cannot_be_is_a_sentence(out, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"--out .*{out} cannot be a folder"):
        bench.run(["--out", str(tmp_path / out)])


@pytest.mark.parametrize("codes, code", [([0, 0], 0), ([0, 1], 1), ([1, 2], 2)])
def test_a_mistake_of_the_user_counts_most(codes, code, tmp_path, monkeypatch):
    left = iter(codes)
    monkeypatch.setattr(bench, "_item", lambda *a: (next(left), {}))
    assert bench.run(["--items", "1", "2", "--out", str(tmp_path)]) == code


@pytest.mark.parametrize("size, shown", [(["--full"], True), ([], False)])
def test_all_items_have_a_bar_on_a_terminal(size, shown, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "_item", lambda *a: (0, {}))
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    assert bench.run([*size, "--items", "1", "2", "--out", str(tmp_path)]) == 0
    assert ("2/2" in screen.getvalue().replace("[2/2]", "")) == shown and "[2/2] item 2" in screen.getvalue()


def test_an_interrupted_item_may_end_what_it_started(tmp_path, monkeypatch):
    """A child that is told nothing is interrupted, and only then killed; nothing is begun after it."""
    monkeypatch.setattr(bench, "GRACE", 5.0)
    tidies = f"""
import pathlib, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts the tests in the background may have it ignored
try:
    pathlib.Path({str(tmp_path / "ready")!r}).touch()
    time.sleep(600)
finally:
    pathlib.Path({str(tmp_path / "tidy")!r}).touch()
"""
    begun = []

    def measure(number, scale, flags, out, running):
        begun.append(number)
        if number == "2":
            running.append(subprocess.Popen([sys.executable, "-c", tidies]))
            return running[0].wait(), {}
        end = time.monotonic() + 60
        while not (tmp_path / {"1": "ready"}.get(number, "tidy")).exists() and time.monotonic() < end:
            time.sleep(0.01)
        return 0, {}

    monkeypatch.setattr(bench, "_item", measure)
    monkeypatch.setattr("genreward_jax.rundir.write_json", Mock(side_effect=KeyboardInterrupt))  # after the first item
    with pytest.raises(KeyboardInterrupt):
        bench.run(["--quick", "--items", "1", "2", "3", "4", "--out", str(tmp_path)])
    assert (tmp_path / "tidy").exists() and begun == ["1", "2", "4"]  # the longest first


def test_a_figure_that_is_no_number_fails_its_item(tmp_path, monkeypatch):
    from genreward_jax.bench import bridge

    monkeypatch.setattr(bridge, "measure", lambda *a: Item("x", [Figure("odd", "ms", [1.0, float("nan")])]))
    assert bench.run(["--quick", "--child", "4", "--out", str(tmp_path)]) == 1


def test_the_verb_is_listed():
    done = subprocess.run([sys.executable, "-m", "genreward_jax", "--help"], capture_output=True, text=True)
    assert "bench" in done.stdout
