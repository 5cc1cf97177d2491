"""Item 3: which OpenGL are tried."""

import pytest

from genreward_jax.bench import rendering
from genreward_jax.bench.scale import SCALES
from genreward_jax.envs import rendering as opengl


def test_other_opengl_are_tried_only_when_they_are_measured(monkeypatch):
    monkeypatch.setattr(opengl, "choose_backend", lambda: "osmesa")
    monkeypatch.setattr(opengl, "probe", lambda name: pytest.fail("a process for nothing"))
    assert rendering.backends(SCALES["quick"]) == rendering.backends(SCALES["default"]) == ["osmesa"]
    monkeypatch.setattr(opengl, "probe", lambda name: {"error": ""})
    assert rendering.backends(SCALES["full"]) == ["osmesa", "egl"]
