"""The scripted expert's goal video: successful, ends shortly after success, rendered once."""

import numpy as np
import pytest

from genreward_jax import video
from genreward_jax.envs import expert
from genreward_jax.envs.metaworld import MetaWorld
from genreward_jax.errors import UserError
from tests.envs.playing import act


def test_the_video_is_rendered_once_and_is_the_expert_episode_to_the_pixel(tmp_path, monkeypatch):
    path = expert.expert_video("drawer_close", 7, 48, tmp_path, quality="fast")
    frames, fps = video.read_video(path)
    assert fps == expert.FPS and [p.name for p in tmp_path.iterdir()] == [path.name], "nothing else is left behind"
    np.testing.assert_array_equal(frames, expert.expert_episode("drawer_close", 7, 48, quality="fast"))
    monkeypatch.setattr(expert.subprocess, "run", None)  # the second time no process is started
    assert expert.expert_video("drawer_close", 7, 48, tmp_path, quality="fast") == path
    with pytest.raises(TypeError):  # another seed is another video
        expert.expert_video("drawer_close", 8, 48, tmp_path, quality="fast")


@pytest.mark.filterwarnings("ignore:Constant")
def test_the_video_ends_shortly_after_success():
    frames = expert.expert_episode("drawer_close", 7, 32, quality="fast")
    env = MetaWorld("drawer_close", seed=7, quality="fast", size=(32, 32))
    from metaworld.policies import ENV_POLICY_MAP

    policy, rows = ENV_POLICY_MAP["drawer-close-v3"](), [env.step(act(reset=True))]
    while len(rows) < len(frames):
        rows.append(env.step(act(np.clip(policy.get_action(env.state), -1, 1))))
    env.close()
    success = [float(row["log/success"]) for row in rows]
    assert success.index(1.0) == len(frames) - 1 - expert.AFTER_SUCCESS
    np.testing.assert_array_equal(frames, np.stack([row["image"] for row in rows]))


def test_an_expert_that_never_succeeds_is_said_and_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="expert of 'shelf_place' did not succeed within 5 steps on seeds 1 to 5"):
        expert.expert_video("shelf_place", 1, 32, tmp_path, length=5, quality="fast")
    assert not list(tmp_path.iterdir())


def test_wrong_names_are_said(tmp_path):
    with pytest.raises(UserError, match="did you mean shelf_place"):
        expert.expert_video("shelf_plase", 1, 32, tmp_path)
    with pytest.raises(UserError, match="Camera 'corner9' is unknown"):
        expert.expert_video("shelf_place", 1, 32, tmp_path, camera="corner9", quality="fast")
