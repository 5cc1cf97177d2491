"""``bench``: what it writes, and that a part that fails is said and counts. The measuring itself is run by .ci/run."""

import json
import subprocess
import sys

import pytest

from genreward_jax.bench.figures import Figure, Item
from genreward_jax.cli import bench
from genreward_jax.errors import UserError


@pytest.mark.parametrize(
    "argv, said",
    [(["--items", "9"], "no item 9"), (["--quick", "--full"], "not allowed"), (["--", "--no.flag", "1"], "no flag")],
)
def test_wrong_flags_are_a_sentence(argv, said, tmp_path):
    with pytest.raises(UserError, match=said):
        bench.run(["--out", str(tmp_path), *argv])
    assert not list(tmp_path.iterdir())


def test_an_item_is_measured_in_a_process_of_its_own_and_written_down(tmp_path, capsys):
    """Item 4 for real, on one window and two; the flags after -- reach it."""
    assert bench.run(["--quick", "--items", "4", "--out", str(tmp_path), "--", "--bridge.threads", "1"]) == 0
    report = json.loads((tmp_path / "bench.json").read_text())
    assert {"date", "commit", "machine", "versions", "scale"} <= report.keys() and report["versions"]["jax"]
    figures = {figure["name"]: figure for figure in report["items"]["4"]["figures"]}
    assert all(figure["least"] <= figure["median"] <= figure["largest"] for figure in figures.values())
    (handed,) = (figure for name, figure in figures.items() if "hand-over" in name)
    assert handed["note"] == "same address"
    assert {path.name for path in tmp_path.iterdir()} == {"bench.json", "bench.md"}
    assert "windows at once" in capsys.readouterr().out


def test_a_part_that_fails_is_said_and_the_others_are_kept(tmp_path, capsys):
    code = bench.run(["--quick", "--items", "4", "--out", str(tmp_path), "--", "--model.family", "/nowhere"])
    assert code == 1 and "Item 4 failed" in capsys.readouterr().err
    assert (tmp_path / "item4.log").exists()
    assert json.loads((tmp_path / "bench.json").read_text())["items"] == {}


def test_a_figure_that_is_no_number_fails_its_item(tmp_path, monkeypatch):
    from genreward_jax.bench import bridge

    monkeypatch.setattr(bridge, "measure", lambda *a: Item("x", [Figure("odd", "ms", [1.0, float("nan")])]))
    assert bench.run(["--quick", "--child", "4", "--out", str(tmp_path)]) == 1


def test_the_verb_is_listed():
    done = subprocess.run([sys.executable, "-m", "genreward_jax", "--help"], capture_output=True, text=True)
    assert "bench" in done.stdout
