"""r_video: the cosine of eq. 5, and what is left of it above a still frame's."""

import numpy as np
import pytest

from genreward_jax.errors import UserError
from genreward_jax.rewards.base import Window
from genreward_jax.rewards.genreward import VideoReward, above_baseline


class Goal:
    def __init__(self, frames):
        self.frames = frames


class Models:
    """An encoder that is linear in the pixels, so that the expected numbers can be written down."""

    def encode_video(self, frames):
        return frames.reshape(len(frames), -1).astype(np.float32)[None] + 1


def window(frames):
    return Window(frames, np.zeros((1, 4)), np.zeros(1), {}, False, 1)


def videos():
    rng = np.random.default_rng(0)
    goal = rng.integers(0, 255, (4, 2, 2, 3)).astype(np.uint8)
    return goal, np.repeat(goal[:1], 4, 0)


def plain(a, b):
    a, b = (x.astype(np.float64).ravel() + 1 for x in (a, b))
    return a @ b / np.sqrt((a @ a) * (b @ b))


def test_without_a_baseline_it_is_the_cosine():
    goal, still = videos()
    other = goal[::-1]
    paid = VideoReward(Goal(goal))(window(other), Models())
    np.testing.assert_allclose(paid.values, [plain(other, goal)], rtol=1e-12)


def test_the_still_baseline_is_taken_off_and_the_rest_rescaled():
    goal, still = videos()
    near = goal.copy()
    near[1] //= 2
    reward = VideoReward(Goal(goal), baseline="still")
    base = plain(still, goal)
    paid = reward(window(near), Models())
    assert base < plain(near, goal)
    np.testing.assert_allclose(paid.values, [(plain(near, goal) - base) / (1 - base)], rtol=1e-9)
    np.testing.assert_allclose(paid.diagnostics["cosine"], plain(near, goal), rtol=1e-12)
    np.testing.assert_allclose(reward(window(goal), Models()).values, [1.0], rtol=1e-9)
    np.testing.assert_allclose(reward(window(still), Models()).values, [0.0], atol=1e-9)


def test_what_is_worse_than_standing_still_is_zero_and_a_still_goal_pays_nothing():
    assert above_baseline(0.5, 0.9) == 0.0
    assert above_baseline(1.0, 1.0) == 0.0


def test_another_baseline_is_refused():
    with pytest.raises(UserError, match="stil"):
        VideoReward(None, baseline="stil")
