"""Generated goal videos: what is asked for, made once by a process of its own, kept by content, told where it fails."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genreward_jax import generating, goal_video
from genreward_jax.config import parse, read_yaml
from genreward_jax.errors import UserError
from genreward_jax.generating import fitted, generate, key_prompts, video_prompt
from genreward_jax.video import read_video


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "first.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 60, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENREWARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path / "cache"


def flags(tiny_videos, picture, *more):
    return parse(["--preset", "smoke", "--model.family", str(tiny_videos), "--goal.image", str(picture), *more])


@pytest.fixture
def counted(monkeypatch):
    """The model's process replaced: grey frames of the right shape, and how often it was asked."""
    asked = []

    def make(folder, request, how, image):
        asked.append(request)
        from genreward_jax.video import write_video

        _, _, height, width = request["box"]
        write_video(folder / "video.mp4", np.full((request["frames"], height, width, 3), 90, np.uint8), 8, exact=True)
        (folder / "request.json").write_text(json.dumps(request))

    monkeypatch.setattr(generating, "_make", make)
    return asked


def test_a_video_is_made_by_a_real_process_once(tiny_videos, picture, cache, monkeypatch):
    """The trainer's process loads no torch for it; the second time no process is started at all."""
    said, before = [], "torch" in sys.modules
    made = generate(flags(tiny_videos, picture), said.append)
    assert made.frames.shape == (9, 32, 32, 3) and made.frames.dtype == np.uint8 and np.ptp(made.frames) > 10
    assert made.fps == fps_of(tiny_videos) and made.request["model"] == "tiny"
    assert ("torch" in sys.modules) == before
    assert len(said) == 1 and "tiny: 9 frames of 32x32 in 2 steps" in said[0]
    assert {path.name for path in made.folder.iterdir()} == {"video.mp4", "request.json", "first_frame.png"}
    np.testing.assert_array_equal(read_video(made.folder / "video.mp4")[0], made.frames)
    monkeypatch.setattr(generating.subprocess, "run", None)
    again = generate(flags(tiny_videos, picture), pytest.fail)
    np.testing.assert_array_equal(again.frames, made.frames)
    assert again.request == made.request


def fps_of(family):
    return json.loads((family / "family.json").read_text())["generation"]["fps"]


def test_what_the_video_depends_on_makes_another_one(tiny_videos, picture, cache, counted, tmp_path):
    """Prompt, picture, seed, frames, steps, guidance, dtype and each part of the model; not names, device or words."""
    first = generate(flags(tiny_videos, picture), str)
    other = tmp_path / "other.png"
    Image.fromarray(np.asarray(Image.open(picture)) // 2).save(other)
    digests = {first.request["digest"]}
    changes = [
        "--goal.prompt do_it", "--goal.seed 1", "--goal.frames 17", "--goal.steps 3", "--goal.guidance 2",
        "--model.dtype bfloat16", f"--goal.image {other}", "--task metaworld_reach",
    ]  # fmt: skip
    for change in changes:
        digests.add(generate(flags(tiny_videos, picture, *change.split()), str).request["digest"])
    for part in ("vae/config.json", "transformer/config.json", "text_encoder/config.json"):
        copy = tmp_path / part.replace("/", "-")
        shutil.copytree(tiny_videos, copy)
        (copy / part).write_text((copy / part).read_text() + "\n")
        digests.add(generate(flags(copy, picture), str).request["digest"])
    assert len(digests) == len(counted) == 1 + len(changes) + 3
    moved, same = tmp_path / "moved", tmp_path / "same.png"
    shutil.copytree(tiny_videos, moved)
    manifest = json.loads((moved / "family.json").read_text())
    (moved / "family.json").write_text(json.dumps({**manifest, "name": "by another name"}))
    shutil.copy(picture, same)
    for change in (["--bridge.device", "cpu"], ["--goal.key_prompts", "a; b"], ["--goal.image", str(same)]):
        generate(flags(moved, picture, *change), str)
    assert len(counted) == len(digests)


def test_a_kept_video_stands_in_for_the_cache(tiny_videos, picture, cache, counted, tmp_path):
    """A run that goes on elsewhere, or after the cache was emptied, has its own; another request's is not taken."""
    made = generate(flags(tiny_videos, picture), str)
    kept = shutil.copytree(made.folder, tmp_path / "kept")
    shutil.rmtree(cache / "generated")
    assert generate(flags(tiny_videos, picture), str, kept=kept).folder == kept and len(counted) == 1
    other = generate(flags(tiny_videos, picture, "--goal.seed", "1"), str, kept=kept)
    assert other.folder != kept and len(counted) == 2
    (kept / "request.json").write_text("no json")
    assert generate(flags(tiny_videos, picture), str, kept=kept).folder != kept and len(counted) == 3


def script(path, text):
    """A program in place of Python; ``$3`` is the folder with the request."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_what_the_process_says_is_a_sentence_and_nothing_is_kept(tiny_videos, picture, cache, tmp_path, capfd):
    says = script(
        tmp_path / "says", "grep -q first_frame.png $3/request.json && printf 'no room' > $3/error.txt; exit 2"
    )
    with pytest.raises(UserError, match="^no room$"):
        generate(flags(tiny_videos, picture, "--bridge.python", says), str)
    crashes = script(tmp_path / "crashes", "echo 'what went wrong' >&2; exit 3")
    with pytest.raises(UserError, match="tiny failed .exit code 3; what it said stands above.*GOAL=file"):
        generate(flags(tiny_videos, picture, "--bridge.python", crashes), str)
    assert "what went wrong" in capfd.readouterr().err
    with pytest.raises(UserError, match="was killed, most likely for memory"):
        generate(flags(tiny_videos, picture, "--bridge.python", script(tmp_path / "killed", "kill -9 $$")), str)
    with pytest.raises(UserError, match="could not be started with '/no/python'"):
        generate(flags(tiny_videos, picture, "--bridge.python", "/no/python"), str)
    assert not list((cache / "generated").iterdir())


@pytest.mark.parametrize(
    ("shape", "size", "box"),
    [
        ((64, 64), (64, 64), (0, 0, 64, 64)),
        ((480, 640), (64, 64), (0, 0, 64, 64)),  # cut to the square that readers see
        ((640, 480), (64, 64), (0, 0, 64, 64)),
        ((480, 480), (720, 480), (0, 120, 480, 480)),  # a square stands in the middle
        ((480, 640), (720, 480), (0, 40, 480, 640)),  # 4:3 keeps all that it shows
        ((480, 720), (720, 480), (0, 0, 480, 720)),
        ((400, 1200), (720, 480), (0, 0, 480, 720)),  # wider than the model: cut at the sides
        ((900, 500), (720, 480), (0, 120, 480, 480)),  # upright: the square in its middle
        ((33, 50), (96, 64), (0, 0, 64, 96)),
        ((64, 64), (64, 96), (16, 0, 64, 64)),
    ],
)
def test_a_picture_is_fitted_to_the_model(shape, size, box):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    got, place = fitted(picture, *size)
    assert got.shape == (size[1], size[0], 3) and got.dtype == np.uint8 and place == box
    top, left, height, width = box
    inner = got[top : top + height, left : left + width]
    around = ((top, size[1] - top - height), (left, size[0] - left - width), (0, 0))
    np.testing.assert_array_equal(got, np.pad(inner, around, mode="edge"))
    if shape[:2] == (height, width):
        np.testing.assert_array_equal(inner, picture)
    if shape[1] > shape[0] and size[0] == size[1]:  # the middle: as every reader cuts
        from genreward_jax.video import fit

        np.testing.assert_array_equal(inner, fit(picture[None], size[0])[0])


def test_a_padded_video_is_cut_back(tiny_videos, cache, tmp_path, monkeypatch):
    """A wider model is shown the square in the middle of its picture, and readers get that square."""
    wide, square = tmp_path / "wide", tmp_path / "square.png"
    shutil.copytree(tiny_videos, wide)
    manifest = json.loads((wide / "family.json").read_text())
    manifest["generation"] |= {"width": 96, "height": 64}
    (wide / "family.json").write_text(json.dumps(manifest))
    Image.fromarray(np.full((70, 70, 3), 120, np.uint8)).save(square)

    def run(command, **options):  # each column has its own grey
        frames = np.broadcast_to(np.arange(96, dtype=np.uint8)[None, None, :, None], (9, 64, 96, 3))
        np.save(Path(command[3]) / "frames.npy", frames)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(generating.subprocess, "run", run)
    made = generate(flags(wide, square), str)
    assert made.request["box"] == [0, 16, 64, 64] and made.frames.shape == (9, 64, 64, 3)
    assert made.frames[0, 0, :, 0].tolist() == list(range(16, 80))
    assert Image.open(made.folder / "first_frame.png").size == (96, 64)


MISTAKES = {
    "--goal.frames 18": "is 18: CogVideoX makes videos of 8k . 1 frames, the nearest is 17",
    "--goal.steps -1": "--goal.steps is -1; it must be 0 or more",
    "--goal.seed -1": "--goal.seed is -1",
    "--goal.guidance -1": "--goal.guidance is -1",
    "--goal.guidance nan": "--goal.guidance is nan",
    "--goal.offload disk": "--goal.offload is 'disk'; it can be none, model, sequential",
    "--goal.image no.png": "There is no picture at 'no.png' .--goal.image, IMAGE=",
    "--goal.source expert --goal.seed 1": "--goal.seed is for a generated goal video, but the goal is 'expert'",
    "--goal.source a.mp4 --goal.image b.png": "--goal.image is for a generated goal video, but the goal is 'a.mp4'",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_a_sentence(line):
    with pytest.raises(UserError, match=MISTAKES[line]):
        generating.check(parse(["--preset", "smoke", *line.split()]))


def test_a_blank_prompt_and_bad_pictures_are_sentences(tmp_path):
    with pytest.raises(UserError, match="--goal.prompt .PROMPT=. is blank"):
        generating.check(parse(["--preset", "smoke", "--goal.prompt", "  "]))
    small, bad = tmp_path / "small.png", tmp_path / "bad.png"
    Image.fromarray(np.zeros((20, 64, 3), np.uint8)).save(small)
    with pytest.raises(UserError, match="is 64x20 pixels; both sides must be 32 or more"):
        generating.read_image(str(small))
    bad.write_bytes(small.read_bytes()[:40])
    with pytest.raises(UserError, match="cannot be read"):
        generating.read_image(str(bad))
    bad.write_bytes(b"no picture")
    with pytest.raises(UserError, match="cannot be read"):
        generating.read_image(str(bad))


def test_prompts_of_video_and_key_frame():
    """The task's own words, unless the user has some; for CLIP those of its own flag come first."""
    words = read_yaml("tasks")["reach"]
    reach = ["--preset", "smoke", "--task", "metaworld_reach"]
    for more, video, key in (
        ([], words["prompt"], words["key_frame"]),
        (["--goal.prompt", words["prompt"]], words["prompt"], words["key_frame"]),
        (["--goal.prompt", "do it"], "do it", ["do it"]),
        (["--goal.key_prompts", "it is done; it is so;"], words["prompt"], ["it is done", "it is so"]),
        (["--goal.prompt", "do it", "--goal.key_prompts", "done"], "do it", ["done"]),
    ):
        config = parse([*reach, *more])
        assert (video_prompt(config), key_prompts(config)) == (video, tuple(key))


def test_expert_and_files_are_goals_too(cache, tmp_path, monkeypatch):
    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{i}.png")
    found = goal_video.goal_video(parse(["--preset", "smoke", "--goal.source", str(tmp_path)]))
    np.testing.assert_array_equal(found.frames, frames)
    assert found.source == str(tmp_path) and found.folder is None
    asked = []
    monkeypatch.setattr(
        "genreward_jax.envs.expert.expert_video", lambda *args, **more: asked.append((args, more)) or tmp_path
    )
    expert = ["--preset", "smoke", "--task", "metaworld_reach", "--goal.source", "expert", "--env.metaworld.quality"]
    assert "scripted expert" in goal_video.goal_video(parse([*expert, "fast"])).source
    assert asked[0][0][0] == "reach" and asked[0][1] == {"camera": "corner2", "quality": "fast", "after": 10}


def test_the_ends_of_several_expert_videos_are_those_after_success(cache, monkeypatch):
    asked = []
    monkeypatch.setattr("genreward_jax.envs.expert.expert_video", lambda task, seed, *_, **more: (seed, more["after"]))
    monkeypatch.setattr(goal_video, "read_video", lambda path: (asked.append(path) or np.arange(100), 30.0))
    flags = ["--preset", "smoke", "--task", "metaworld_reach", "--goal.source", "expert", "--goal.experts", "3"]
    ends = goal_video.expert_ends(parse(flags))
    assert [end.tolist() for end in ends] == [list(range(59, 100))] * 3  # the success and the 40 steps after it
    seeds = [seed for seed, _ in asked]
    assert np.diff(seeds).tolist() == [5, 5] and {after for _, after in asked} == {40}
    assert goal_video.expert_ends(parse(["--preset", "smoke", "--goal.source", "generated"])) == []
