"""Fine-tuning as a process of its own: its verb, Ctrl-C, and several processes under accelerate's launcher."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.torch_bridge import tiny_family, tiny_videos

ROOT = Path(__file__).resolve().parents[2]
QUICK = "--videos 0 --validation 2 --batch 4 --warmup 0 --threads 1".split()


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> list[str]:
    """Data and model on the command line."""
    folder = tmp_path_factory.mktemp("given")
    data, model = tiny_videos.toy_set(folder / "toy", 4), tiny_family.make(folder / "tiny")
    return ["--data", str(data), "--model", str(model)]


def test_the_verb_is_the_training_process(start, tmp_path):
    """A signal to the process that was started reaches the training, which saves."""
    out = tmp_path / "out"
    argv = [*start, "--out", str(out), "--steps", "100000", *QUICK]
    child = subprocess.Popen(
        [sys.executable, "-m", "genreward_jax", "finetune", *argv],
        cwd=ROOT,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    losses = out / ".work/run/losses.jsonl"
    while child.poll() is None and not (losses.exists() and '"loss"' in losses.read_text()):
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 130, said
    assert "Stopped. This goes on: python -m genreward_jax finetune --data" in said and "Traceback" not in said
    assert (out / ".work/run/checkpoint.safetensors").is_file() and not (out / "family.json").exists()


def test_two_processes_of_accelerates_launcher(start, tmp_path):
    """Here on CPUs over gloo; on GPUs the launcher is called in the same way."""
    out = tmp_path / "out"
    launch = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
    launch += " --dynamo_backend no --main_process_port 0 -m torch_bridge.training.finetune"
    argv = [*start, "--out", str(out), "--steps", "3", "--validate-every", "3", *QUICK]
    done = subprocess.run(
        [sys.executable, *launch.split(), *argv],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )
    assert done.returncode == 0, done.stderr
    assert "3 steps of 4 on each of 2 processes" in done.stdout
    assert done.stdout.count("Done:") == 1
    record = json.loads((out / "finetune.json").read_text())
    assert record["settings"]["processes"] == 2 and len(record["figures"]) == 2
    assert (out / "transformer_lora/pytorch_lora_weights.safetensors").is_file()
