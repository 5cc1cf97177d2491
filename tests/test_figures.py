"""Pictures say what their numbers say: flat is flat, lengths run together, the chosen frame is marked."""

import numpy as np
import pytest
from PIL import Image

from genreward_jax.figures import beside as beside_lib
from genreward_jax.figures import curves
from genreward_jax.figures.beside import beside
from genreward_jax.figures.curves import learning_curve
from genreward_jax.figures.goal import goal_picture


def colour(picture: np.ndarray, hexadecimal: str) -> np.ndarray:
    """(row, column) of the pixels of that colour."""
    wanted = np.array([int(hexadecimal[i : i + 2], 16) for i in (1, 3, 5)])
    return np.argwhere((np.abs(picture.astype(int) - wanted) < 12).all(-1))


def rows_of(scores: list[float], kind: str = "eval", every: int = 1000) -> list[dict]:
    return [{"step": i * every, "score": s, "success": 0.0, "kind": kind} for i, s in enumerate(scores)]


def read(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def line_heights(path) -> np.ndarray:
    """For each column, the lowest place of the evaluation's line in the upper axes; the legend is above it."""
    picture = read(path)
    found = colour(picture[: int(picture.shape[0] * 0.55)], curves.style.MARK)
    return np.array([found[found[:, 1] == column, 0].max() for column in np.unique(found[:, 1])])


def test_a_flat_curve_is_drawn_flat_and_a_rising_one_rises(tmp_path):
    rng = np.random.default_rng(0)
    learning_curve(tmp_path / "flat.png", rows_of(list(3 + rng.uniform(-0.5, 0.5, 8))))
    learning_curve(tmp_path / "rises.png", rows_of(list(np.linspace(0, 2000, 8))))
    flat, rises = line_heights(tmp_path / "flat.png"), line_heights(tmp_path / "rises.png")
    height = read(tmp_path / "flat.png").shape[0]
    assert np.ptp(flat) < 0.1 * height
    assert np.ptp(rises) > 0.35 * height


def test_return_limits_hold_zero_and_all_values():
    for values in ([0, 0], [3.0, 4.0], [-5.0, 2.0], [100.0, 2000.0], [float("nan"), 1.0], []):
        low, high = curves.limits(values)
        finite = [v for v in values if np.isfinite(v)]
        assert low < min([0, *finite]) and high > max([0, *finite]) and high - low >= curves.SMALLEST_SPAN


def test_training_returns_are_there_but_fainter_than_evaluations(tmp_path):
    both = rows_of([10, 20, 30]) + rows_of(list(range(12)), "episode", 200)
    learning_curve(tmp_path / "both.png", both, "title", "seed 0")
    learning_curve(tmp_path / "alone.png", rows_of([10, 20, 30]), "title", "seed 0")
    faint = curves.style.FAINT
    assert len(colour(read(tmp_path / "both.png"), faint)) > len(colour(read(tmp_path / "alone.png"), faint)) + 100
    learning_curve(tmp_path / "first.png", rows_of([1]))
    learning_curve(tmp_path / "episodes.png", rows_of([1, 2], "episode"))
    assert len(list(tmp_path.iterdir())) == 4
    with pytest.raises(ValueError, match="at least one score"):
        learning_curve(tmp_path / "none.png", [])


def test_running_mean_against_numpy():
    values = np.random.default_rng(0).normal(size=9)
    expected = [values[max(0, i - 3) : i + 1].mean() for i in range(9)]
    np.testing.assert_allclose(curves.running_mean(values, 4), expected)


def numbered(count: int, height: int, width: int) -> np.ndarray:
    """Frames of one grey each, from dark to light."""
    return np.broadcast_to(
        np.linspace(10, 240, count).astype(np.uint8)[:, None, None, None], (count, height, width, 3)
    ).copy()


@pytest.mark.parametrize("lengths", [(49, 257), (97, 30), (1, 5)])
def test_goal_and_episode_start_and_end_together(lengths):
    goal, episode = numbered(lengths[0], 48, 64), numbered(lengths[1], 64, 64)
    pages = beside(goal, episode)
    side, gap, header = beside_lib.SIDE, beside_lib.GAP, beside_lib.HEADER
    assert pages.dtype == np.uint8 and len(pages) == max(lengths)
    assert pages.shape[1] % 2 == 0 and pages.shape[2] % 2 == 0
    middle = header + side // 2
    left, right = pages[:, middle, gap + side // 2, 0], pages[:, middle, 2 * gap + side + side // 2, 0]
    for shown, frames in ((left, goal), (right, episode)):
        assert shown[0] == frames[0, 0, 0, 0] and shown[-1] == frames[-1, 0, 0, 0]
        assert set(shown) == set(frames[:, 0, 0, 0]), "every frame is shown"
        expected = np.linspace(10, 240, len(pages)) if len(frames) > 1 else 10  # greys: how far the time has come
        assert np.abs(shown - expected).max() <= 1 + 230 / max(1, len(frames) - 1)


def test_a_small_episode_is_enlarged_with_its_pixels_as_blocks():
    picture = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    large = beside_lib.enlarge(picture, 320)
    assert large.shape == (1, 320, 320, 3)
    np.testing.assert_array_equal(large[:, 2::5, 2::5], picture)
    assert beside_lib.enlarge(numbered(2, 480, 640), 320).shape == (2, 320, 320, 3)


@pytest.mark.parametrize("count", [1, 3, 17, 49])
def test_a_goal_picture_shows_strip_best_frames_and_curve(tmp_path, count):
    """The key frame stands large and marked, as do the next best; a rank further down is still shown."""
    frames, key = numbered(count, 48, 64), count // 2
    similarity = np.linspace(0.2, 0.3, count)
    similarity[key] = 0.4
    frames[key] = (10, 200, 40)
    if count > 1:
        frames[-1] = (200, 10, 220)  # the second best
    goal_picture(tmp_path / "key.png", frames, similarity, key, "put the cup down", ("the cup is down",), "note")
    picture = read(tmp_path / "key.png")
    for shown in ["#0ac828"] + ["#c80adc"] * (count > 1):
        assert len(colour(picture, shown)) > 0.03 * picture.shape[0] * picture.shape[1], (
            "it fills a part of the picture"
        )
    assert len(colour(picture, "#c8641e")) > 500  # the mark
    assert count == 1 or len(colour(picture, "#2d69af")) > 400  # the curve
    with pytest.raises(ValueError):
        goal_picture(tmp_path / "b.png", frames, np.zeros(count + 1), 0, "x")


def test_a_later_rank_is_drawn_among_the_best(tmp_path):
    frames = numbered(9, 48, 48)
    frames[0] = (10, 200, 40)
    goal_picture(tmp_path / "key.png", frames, np.linspace(0.1, 0.2, 9), 0, "put the cup down")
    picture = read(tmp_path / "key.png")
    assert len(colour(picture, "#0ac828")) > 0.03 * picture.shape[0] * picture.shape[1]
