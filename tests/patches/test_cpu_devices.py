"""Upstream's flags for several devices, on a CPU's virtual ones: the same losses with FB inside, and patience."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from dreamerv3_patches import repairs

ROOT = Path(__file__).parent.parent.parent


def steps(devices, out):
    command = [sys.executable, "-m", "tests.patches.split_steps", str(devices), str(out)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ)


def test_losses_and_actions_stay_the_same(tmp_path):
    """Four updates with FB inside; 1e-4 is what the summation's order may cost."""
    outs = [tmp_path / f"{devices}.npz" for devices in (1, 2)]
    for process in [steps(devices, out) for devices, out in zip((1, 2), outs, strict=True)]:
        errors = process.communicate(timeout=400)[1]
        assert process.returncode == 0, errors
    one, two = (dict(np.load(out)) for out in outs)
    assert len(one) > 20 and one.keys() == two.keys()
    assert one["1:loss/image"] > 1 and one["1:loss/image"] != one["3:loss/image"]
    for key, value in one.items():
        np.testing.assert_allclose(two[key], value, rtol=1e-4, atol=1e-5, err_msg=key)


def test_the_users_own_xla_flags_are_kept_and_virtual_devices_wait_without_an_end(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_of_mine=1")
    setup = lambda **settings: os.environ.update(XLA_FLAGS="--xla_of_upstream=2")
    repairs.keeping_xla_flags(setup, mock_devices=0)
    assert os.environ["XLA_FLAGS"].split() == ["--xla_of_upstream=2", "--xla_of_mine=1"]
    repairs.keeping_xla_flags(setup, mock_devices=2)
    assert "--xla_cpu_collective_call_terminate_timeout_seconds=1000000000" in os.environ["XLA_FLAGS"].split()
    assert os.environ["XLA_FLAGS"].split().count("--xla_of_mine=1") == 1
