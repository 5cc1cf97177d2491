"""`make models` and `make models-eval` in small: every part trained for a few steps on a tiny data set, then judged."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from genreward_jax.demonstrations import render
from genreward_jax.evaluation import models

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("vae", "transformer", "clip", "dino")


def python(*arguments):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)


def embedded_steps():
    """The recipe's steps, read without importing torch here."""
    source = ast.parse((ROOT / "torch_bridge" / "training" / "embedded.py").read_text())
    (value,) = [n.value for n in source.body if isinstance(n, ast.Assign) and n.targets[0].id == "STEPS"]
    return ast.literal_eval(value)


def portions(first_seed, **settings):
    counts = (("expert", 3), ("stop50", 1), ("random", 1))
    return [
        render.Portion(task, quality, counts, first_seed, **settings)
        for task, quality in (("door_close", "fast"), ("reach", "fast"), ("reach", "full"))
    ]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with the data and the family trained on it for a few steps."""
    folder = tmp_path_factory.mktemp("models")
    render.render(folder / "data", portions(0), 1)
    for part in PARTS:
        scale = 4 / embedded_steps()[part]
        recipe = ("-m", "torch_bridge.training.embedded", "--data", folder / "data", "--work", folder, "--threads", 1)
        done = python(*recipe, "--part", part, "--scale", scale)
        assert done.returncode == 0, done.stderr[-2000:]
        whole = (folder / "embedded" / "family.json").is_file()
        assert whole == (part == PARTS[-1])  # a family that lacks a part is not taken for one
    return folder


def test_every_part_was_trained_and_is_small(work):
    from safetensors.numpy import load_file

    total = sum(p.stat().st_size for p in (work / "embedded").rglob("*") if p.is_file())
    assert total < 20e6
    for part in (*PARTS, "text_encoder"):
        (after,) = (work / "embedded" / part).glob("*.safetensors")
        (before,) = (work / "untrained" / part).glob("*.safetensors")
        old, new = load_file(before), load_file(after)
        assert old.keys() == new.keys()
        assert all(value.dtype == np.float16 for value in new.values() if value.dtype.kind == "f"), part
        assert any((old[key] != new[key]).any() for key in old), part
    assert json.loads((work / "embedded" / "family.json").read_text())["trained"] is True


def test_the_transformer_says_that_it_needs_the_autoencoder(work, tmp_path):
    done = python(
        *("-m", "torch_bridge.training.embedded", "--part", "transformer", "--data", work / "data"), "--work", tmp_path
    )
    assert done.returncode == 2 and "train it first" in done.stderr and "Traceback" not in done.stderr


def test_a_family_is_measured_and_its_figures_are_made(work, tmp_path):
    settings = dict(last_step=256, stride=8, windows=True, same_seeds=True)
    counts = (("expert", 2), ("stop50", 2), ("random", 2))
    tasks = ("pick_place", "shelf_place")
    data = render.render(
        tmp_path / "data", [render.Portion(task, "fast", counts, 100_000, **settings) for task in tasks], 1
    )
    measuring = ("-m", "torch_bridge.measuring", "--family", work / "embedded", "--data", data, "--threads", 1)
    done = python(*measuring, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr[-2000:]
    experts = models.read(tmp_path / "out")
    assert [(e.task, e.seed) for e in experts] == [(task, 100_000 + i) for task in tasks for i in range(2)]
    for expert in experts:
        assert set(expert.windows) == {"expert", "stop50", "random"}
        assert all(window.shape == (2, 4096) for window in expert.windows.values())
        assert expert.features.shape == (33, 384) and len(expert.similarity) == len(expert.phases) == 33
        assert expert.made.shape == (17, 64, 64, 3)
    figures = models.all_figures(experts)
    assert set(figures) == {"paper"} and 5 < figures["paper"]["psnr"] < 40
    assert all(0 <= figures["paper"][name] <= 1 for name in figures["paper"] if name.startswith("auc"))
