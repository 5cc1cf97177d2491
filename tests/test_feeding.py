"""With a fixed policy the replay's content is the same, whoever feeds it and however late the rewards are."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent


def feed(feeder, speed, folder):
    out = folder / f"{feeder}-{speed}.npz"
    env = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}
    command = [sys.executable, str(HERE / "parallel_feed.py"), feeder, str(out), speed]
    with (folder / "output.txt").open("w+") as output:
        child = subprocess.Popen(command, env=env, stdout=output, stderr=output, start_new_session=True)
        try:
            code = child.wait(timeout=180)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # the batch server's process as well
        child.wait()
        output.seek(0)
        said = output.read()
    assert code == 0, said
    with np.load(out) as found:
        return {key: found[key] for key in found}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return feed("driver", "at_once", tmp_path_factory.mktemp("feeding"))


@pytest.mark.parametrize(("feeder", "speed"), [("driver", "late"), ("parallel", "at_once"), ("parallel", "late")])
def test_the_same_rows_reach_the_replay(reference, feeder, speed, tmp_path):
    found = feed(feeder, speed, tmp_path)
    assert found.keys() == reference.keys() and found["held"]
    for key, values in reference.items():
        held = found[key]
        if key.endswith("/action"):  # upstream's driver zeroes the action of an episode's last row, its actor does not
            live = ~reference[key.replace("action", "is_last")]
            held, values = held[live], values[live]
        np.testing.assert_allclose(held, values, rtol=1e-5, atol=1e-5, err_msg=key)


def test_the_reference_pays_where_it_should(reference):
    for worker in range(2):
        paid = np.flatnonzero(np.isfinite(reference[f"{worker}/reward_video"]))
        np.testing.assert_array_equal(paid, [8, 16, 29, 37, 50, 58])  # episodes of 1 + 20 rows, interval 8
        np.testing.assert_array_equal(np.flatnonzero(np.isfinite(reference[f"{worker}/reward_fb"])), paid)
        before = reference[f"{worker}/image"][paid - 1].reshape(len(paid), -1).mean(1) / 255
        np.testing.assert_allclose(reference[f"{worker}/reward_fb"][paid], 10 * before, rtol=1e-5)
