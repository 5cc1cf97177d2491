"""A CPU's train step split over virtual devices computes what it computes on one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from genreward_jax import config, device, parts
from genreward_jax.errors import UserError

ROOT = Path(__file__).parent.parent.parent
CPU = ["--preset", "cpu", "--jax.platform", "cpu"]


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


@pytest.mark.parametrize("cores, batch, devices", [(1, 8, 1), (2, 8, 2), (2, 7, 1), (64, 8, 2)])
def test_as_many_as_cores_that_divide_the_batch(monkeypatch, cores, batch, devices):
    monkeypatch.setattr(device, "cores", lambda: cores)
    settled = config.parse([*CPU, "--batch_size", str(batch)])
    assert device.cpu_devices(settled) == devices
    section = parts._jax_settings(settled)
    assert tuple(section.train_devices) == tuple(range(devices))
    assert section.mock_devices == (devices if devices > 1 else 0)


def test_a_gpu_and_upstreams_own_flags_are_left_alone(monkeypatch):
    monkeypatch.setattr(device, "cores", lambda: 8)
    assert device.cpu_devices(config.parse(["--preset", "paper", "--jax.platform", "cuda"])) == 1
    own = config.parse([*CPU, "--jax.mock_devices", "3", "--jax.train_devices", "1", "2"])
    assert parts._jax_settings(own) == own.jax
    assert device.cpu_devices(config.parse([*CPU, "--patches.cpu_devices", "1"])) == 1


@pytest.mark.parametrize("wrong", ["3", "-1"])
def test_what_does_not_divide_the_batch_is_refused(wrong):
    with pytest.raises(UserError, match=f"cpu_devices is {wrong}"):
        parts.check(config.parse([*CPU, "--patches.cpu_devices", wrong]))
