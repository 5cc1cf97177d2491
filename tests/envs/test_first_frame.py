"""The picture that a goal video starts from: an episode's own first frame, drawn once in a process of its own."""

import numpy as np
import pytest
from PIL import Image

from genreward_jax.envs import expert
from genreward_jax.envs.first_frame import draw, first_frame
from genreward_jax.envs.metaworld import MetaWorld
from genreward_jax.errors import UserError
from tests.envs.playing import act


def test_it_is_the_environments_own_first_frame(tmp_path, monkeypatch):
    path = first_frame("drawer_close", 3, 48, tmp_path, quality="fast")
    env = MetaWorld("drawer_close", size=(48, 48), quality="fast", seed=3)
    wanted = env.step(act(reset=True))["image"]
    env.close()
    np.testing.assert_array_equal(np.asarray(Image.open(path)), wanted)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    monkeypatch.setattr(expert.subprocess, "run", None)  # the second time no process is started
    assert first_frame("metaworld_drawer_close", 3, 48, tmp_path, quality="fast") == path
    with pytest.raises(TypeError):  # another camera is another picture
        first_frame("drawer_close", 3, 48, tmp_path, camera="corner", quality="fast")
    assert np.abs(draw("drawer_close", 4, 48, quality="fast").astype(int) - wanted).max() > 0, "another seed"


def test_wrong_names_are_said(tmp_path):
    with pytest.raises(UserError, match="did you mean shelf_place"):
        first_frame("shelf_plase", 1, 32, tmp_path)
    with pytest.raises(UserError, match="no camera 'corner9'"):
        first_frame("shelf_place", 1, 32, tmp_path, camera="corner9")
