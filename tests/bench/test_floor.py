"""Floors: the longer of operations and bytes, what drawing moves, what the video encoder computes."""

import json
import subprocess
import sys

import mujoco
import numpy as np
import pytest

from genreward_jax.bench import floor, rendering

TETRAHEDRON = """
<mujoco><asset><mesh name="m" vertex="0 0 0  1 0 0  0 1 0  0 0 1"/></asset>
<worldbody><geom type="mesh" mesh="m"/></worldbody></mujoco>
"""


def test_a_floor_is_the_longer_of_operations_and_bytes():
    best = floor.Best(products=2e9, copying=1e9)
    assert best.seconds(4e9, 1e9) == 2.0 and best.seconds(1e9, 3e9) == 3.0
    figure = best.figure("a step", 4e9, 1e9)
    assert (figure.name, figure.unit, figure.values) == ("a step: floor", "ms", [2000.0])
    assert "4 GFLOP in 2e+03 ms" in figure.note and "1e+03 MB, each byte once, in 1e+03 ms" in figure.note


def test_the_machines_best_is_measured():
    """A product cannot be slower than one addition at a time, nor a copy faster than 10 TB/s."""
    best = floor.Best.measured()
    assert best.products > 1e9 and 1e8 < best.copying < 1e13


def test_a_device_that_is_not_the_host_has_its_own_memory_copied(monkeypatch):
    monkeypatch.setattr(floor, "backend", lambda: "gpu")
    monkeypatch.setattr(floor, "copying", lambda **size: pytest.fail("that is the host's memory"))
    assert 1e8 < floor.Best.measured(quick=True).copying < 1e13


@pytest.mark.parametrize("quality, size, sides", [("full", 64, 64), ("fast", 64, 128), ("fast", 480, 480)])
def test_drawing_moves_each_corner_and_each_pixel_once(quality, size, sides):
    """Four triangles of three corners of 24 bytes; 8 bytes for each pixel, which a small picture has four times."""
    model = mujoco.MjModel.from_xml_string(TETRAHEDRON)
    assert rendering._bytes(model, quality, size) == 4 * 3 * 24 + 8 * sides**2


def test_operations_of_the_video_encoder_grow_with_the_window():
    counted = {}
    for frames in (8, 16):
        command = [sys.executable, "-m", "torch_bridge.operations", "--family", "embedded", "--frames", str(frames)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        counted[frames] = json.loads(done.stdout.splitlines()[-1])
    assert counted[8]["flops"] > 5e8  # its convolutions are in it, not only what is multiplied by matrices
    np.testing.assert_allclose(counted[16]["flops"], 2 * counted[8]["flops"], rtol=0.05)
    assert counted[8]["bytes"] == counted[16]["bytes"] > 1e6
