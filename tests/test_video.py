"""Goal videos in every form a user may have, and sentences for those that cannot be read."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genreward_jax import video
from genreward_jax.errors import UserError


def moving(count: int = 6, height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth frames with a bright square that moves right, each different."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[..., 0] = np.linspace(20, 200, width).astype(np.uint8)
    frames[..., 1] = np.linspace(200, 20, height).astype(np.uint8)[:, None]
    for i in range(count):
        frames[i, 8:24, 4 + 6 * i : 20 + 6 * i] = 230
    return frames


def save_pictures(folder: Path, frames: np.ndarray, names: list[str]) -> Path:
    folder.mkdir()
    for frame, name in zip(frames, names, strict=True):
        Image.fromarray(frame).save(folder / name)
    return folder


def test_mp4_comes_back_nearly_and_exact_mp4_to_the_bit(tmp_path):
    frames = moving()
    video.write_video(tmp_path / "a" / "plain.mp4", frames, 12)
    read, fps = video.read_video(tmp_path / "a" / "plain.mp4")
    assert read.shape == frames.shape and read.dtype == np.uint8 and fps == 12
    assert np.abs(read.astype(int) - frames).mean() < 4
    video.write_video(tmp_path / "exact.mp4", frames, 30, exact=True)
    np.testing.assert_array_equal(video.read_video(tmp_path / "exact.mp4")[0], frames)


def test_an_odd_size_is_padded_and_one_frame_is_enough(tmp_path):
    frames = moving(1, 33, 47)
    video.write_video(tmp_path / "odd.mp4", frames, 10, exact=True)
    read, _ = video.read_video(tmp_path / "odd.mp4")
    assert read.shape == (1, 34, 48, 3)
    np.testing.assert_array_equal(read[:, :33, :47], frames)


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    video.write_video(path, moving(3), 10)
    before = path.read_bytes()
    monkeypatch.setattr(np, "ascontiguousarray", lambda frame: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        video.write_video(path, moving(6), 10)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(ValueError, match="float32"):
        video.write_video(path, moving().astype(np.float32), 10)


def test_gif_with_its_rate(tmp_path):
    images = [Image.fromarray(frame) for frame in moving(5)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=40, loop=0)
    frames, fps = video.read_video(tmp_path / "a.gif")
    assert frames.shape == (5, 48, 64, 3) and fps == pytest.approx(25)
    assert np.abs(frames.astype(int) - moving(5)).mean() < 12
    assert (frames[1:] != frames[:-1]).any((1, 2, 3)).all()


def test_a_folder_is_read_in_natural_order(tmp_path):
    frames = moving(3)
    folder = save_pictures(tmp_path / "f", frames, ["frame10.png", "frame9.png", "frame1.png"])
    (folder / "notes.txt").write_text("not a picture")
    (folder / "._frame2.png").write_text("left by a Mac")
    read, fps = video.read_video(folder)
    np.testing.assert_array_equal(read, frames[::-1])
    assert fps == video.DEFAULT_FPS


def test_grey_and_transparent_pictures_become_rgb_and_jpg_is_read(tmp_path):
    (tmp_path / "f").mkdir()
    Image.fromarray(moving(1)[0, ..., 0]).save(tmp_path / "f" / "1.png")
    Image.fromarray(np.dstack([moving(1)[0], np.full((48, 64), 128, np.uint8)])).save(tmp_path / "f" / "2.png")
    Image.fromarray(moving(1)[0]).save(tmp_path / "f" / "3.JPG")
    assert video.read_video(tmp_path / "f")[0].shape == (3, 48, 64, 3)


def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "nothing.mp4").write_bytes(b"")
    (tmp_path / "text.gif").write_text("no gif")
    (tmp_path / "notes.txt").write_text("hello")
    video.write_video(tmp_path / "cut.mp4", moving(30), 10)
    whole = (tmp_path / "cut.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    save_pictures(tmp_path / "mixed", [moving(1)[0], moving(1, 40, 40)[0]], ["1.png", "2.png"])
    save_pictures(tmp_path / "broken", moving(1), ["1.png"])
    (tmp_path / "broken" / "2.png").write_bytes(b"\\x89PNG no")
    video.write_video(tmp_path / "small.mp4", moving(2, 30, 64), 10)
    for name, sentence in {
        "missing.mp4": "There is no video at",
        "empty": "holds no png or jpg pictures",
        "text.mp4": "cannot be read",
        "nothing.mp4": "cannot be read",
        "text.gif": "cannot be read",
        "notes.txt": "is no video that can be read",
        "cut.mp4": "cannot be read|no frames",
        "mixed": "different sizes .40x40, 64x48.",
        "broken": "2.png' cannot be read",
        "small.mp4": "is 64x30 pixels; both sides must be 32 or more",
    }.items():
        with pytest.raises(UserError, match=sentence):
            video.read_video(tmp_path / name)


def test_a_video_too_long_for_memory_is_said_before_it_is_read(tmp_path, monkeypatch):
    video.write_video(tmp_path / "long.mp4", moving(9), 10)
    monkeypatch.setattr(video, "LARGEST", 5 * 48 * 64 * 3)
    with pytest.raises(UserError, match="too long to be held in memory"):
        video.read_video(tmp_path / "long.mp4")


def test_fit_cuts_the_middle_square_and_resizes():
    wide = np.zeros((2, 40, 100, 3), np.uint8)
    wide[:, :, 30:70] = 200  # the middle square, and nothing else
    for size in (40, 64, 16):
        fitted = video.fit(wide, size)
        assert fitted.shape == (2, size, size, 3) and (fitted == 200).all()
    tall = np.zeros((1, 101, 40, 3), np.uint8)
    tall[:, 30:70] = 200
    assert (video.fit(tall, 40) == 200).all()
    same = moving(2, 64, 64)
    fitted = video.fit(same, 64)
    np.testing.assert_array_equal(fitted, same)
    assert not np.shares_memory(fitted, same)
    checks = np.indices((128, 128)).sum(0) % 2 * 255
    small = video.fit(np.repeat(checks[None, ..., None], 3, -1).astype(np.uint8), 32)
    assert np.abs(small[:, 2:-2, 2:-2].astype(int) - 127).max() < 8, "fine patterns are averaged, not picked from"


PUBLIC = os.environ.get("GOAL_VIDEOS", "")


@pytest.mark.skipif(not PUBLIC, reason="GOAL_VIDEOS names no folder with the paper's public goal videos")
def test_the_papers_public_goal_videos_are_read():
    paths = sorted(Path(PUBLIC).glob("*.mp4"))
    assert paths
    for path in paths:
        frames, fps = video.read_video(path)
        assert frames.shape == (49, 480, 640, 3) and fps == 8
        assert video.fit(frames[:2], 64).shape == (2, 64, 64, 3)


def test_writing_beside_jax_warns_of_no_fork(tmp_path):
    """JAX warns of every fork once it runs; the encoder's is followed by its start at once."""
    program = (
        "import jax, numpy; from genreward_jax.video import write_video; jax.numpy.ones(1).block_until_ready(); "
        f"write_video({str(tmp_path / 'a.mp4')!r}, numpy.zeros((2, 16, 16, 3), numpy.uint8), 8.0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "fork" not in done.stderr
