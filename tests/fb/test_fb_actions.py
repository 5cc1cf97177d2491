"""The picture of F.B over actions: each slice is asked as it is labelled, and the best action is where it is ringed."""

import numpy as np
import pytest
from PIL import Image

from genreward_jax.figures import style
from genreward_jax.figures.fb_actions import actions_picture, over_actions, pairs_of

BEST = np.array([0.6, -0.4, 0.2, -1.0])


def values(actions):
    assert actions.shape[1:] == (4,)
    return 5 - np.square(actions - BEST).sum(1)


def test_a_slice_holds_the_values_of_its_actions():
    rest = np.array([0.1, 0.2, 0.3, 0.4])
    grid = over_actions(values, (0, 2), rest, resolution=11)
    line = np.linspace(-1, 1, 11)
    for row in (0, 4, 10):
        for column in (0, 7):
            action = np.array([line[column], 0.2, line[row], 0.4])
            np.testing.assert_allclose(grid[row, column], 5 - np.square(action - BEST).sum(), rtol=1e-5)
    row, column = np.unravel_index(grid.argmax(), grid.shape)
    np.testing.assert_allclose([line[column], line[row]], [0.6, 0.2], atol=1e-6)


def marks(path) -> list[np.ndarray]:
    """Middle (row, column) of the ring in the left and in the right half of a picture of two maps."""
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    wanted = np.array([int(style.SECOND[i : i + 2], 16) for i in (1, 3, 5)])
    found = np.argwhere((np.abs(picture - wanted) < 20).all(-1))
    middle = picture.shape[1] * 0.47
    return [found[found[:, 1] < middle].mean(0), found[found[:, 1] >= middle].mean(0)]


def test_the_ring_is_where_the_best_action_is(tmp_path):
    """Right of the middle and below it for (x, y) = (0.6, -0.4); at the lower edge for the gripper."""
    frame = np.zeros((8, 8, 3), np.uint8)
    action = np.array([0.0, 0.0, 0.0, 0.0])
    actions_picture(tmp_path / "a.png", values, action)
    (low, right), (lower, _) = marks(tmp_path / "a.png")
    mirrored = lambda actions: values(actions * [-1, -1, 1, -1])
    actions_picture(tmp_path / "b.png", mirrored, action)
    (high, left), (upper, _) = marks(tmp_path / "b.png")
    assert right > left + 50 and low > high + 50 and lower > upper + 100
    actions_picture(tmp_path / "c.png", lambda a: np.zeros(len(a)), action, frames=[("now", frame)], note="n")
    assert (tmp_path / "c.png").stat().st_size > 5000  # a constant is drawn too


def test_only_pairs_that_an_action_has_are_drawn(tmp_path):
    assert [pairs_of(count) for count in range(1, 6)] == [[], [(0, 1)], [(0, 1)], [(0, 1), (2, 3)], [(0, 1), (2, 3)]]
    for count in (2, 4):
        value = lambda actions: actions.sum(1)
        actions_picture(tmp_path / f"{count}.png", value, np.zeros(count), note="a long note " * 30)
    two, four = (Image.open(tmp_path / f"{count}.png").size for count in (2, 4))
    assert two[0] < 0.7 * four[0]
    with pytest.raises(ValueError, match="1 numbers"):
        actions_picture(tmp_path / "none.png", lambda actions: actions.sum(1), np.zeros(1))
