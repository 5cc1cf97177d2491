"""Episodes played and drawn by the real simulator."""

import json

import numpy as np
import pytest

from genreward_jax.demonstrations import play, render
from genreward_jax.video import read_frames


@pytest.fixture(scope="module")
def stage():
    made = play.Stage("door_close", "fast")
    yield made
    made.close()


def test_an_expert_passes_through_the_phases_and_succeeds(stage):
    episode = stage.play(3, "expert", range(0, 129, 8))
    assert episode.frames.shape == (17, 64, 64, 3) and episode.frames.dtype == np.uint8
    assert 0 < episode.success_step <= 128
    assert episode.phases[0] == "away" and "done" in episode.phases
    assert episode.phases.index("done") * 8 >= episode.success_step


def test_the_same_seed_is_the_same_episode_and_begins_alike_for_all(stage):
    first, again = (stage.play(5, "noisy2", range(0, 41, 8)) for _ in range(2))
    np.testing.assert_array_equal(first.frames, again.frames)
    expert, other = stage.play(5, "expert", [0, 40]), stage.play(6, "expert", [0, 40])
    np.testing.assert_array_equal(expert.frames[0], first.frames[0])
    assert (expert.frames[1] != first.frames[-1]).any()
    assert (expert.frames[0] != other.frames[0]).any()


def test_who_gives_up_half_way_was_an_expert_until_then_and_does_not_succeed(stage):
    expert, stopped = (stage.play(3, behaviour, range(0, 129, 8)) for behaviour in ("expert", "stop50"))
    half = expert.success_step // 2
    for step, mine, other in zip(expert.steps, expert.frames, stopped.frames, strict=True):
        if step <= half:
            np.testing.assert_array_equal(mine, other)
    assert stopped.success_step == -1
    assert (expert.frames[-1] != stopped.frames[-1]).any()


def test_another_behaviour_is_refused(stage):
    with pytest.raises(KeyError, match="lazy"):
        stage.play(0, "lazy", [0])


def test_a_data_set_is_rendered_once_and_goes_on_where_it_was_stopped(tmp_path):
    portions = [
        render.Portion(task, "fast", (("expert", 1), ("random", 1)), 7, last_step=16, stride=8, same_seeds=True)
        for task in ("door_close", "reach")
    ]
    render.render(tmp_path, portions[:1], 1)
    before = (tmp_path / "door_close-fast" / "expert-000.mp4").stat().st_mtime_ns
    told = []
    render.render(tmp_path, portions, 1, lambda *what: told.append(what))
    assert told[0] == (1, 2, "") and told[-1] == (2, 2, "reach-fast")
    assert (tmp_path / "door_close-fast" / "expert-000.mp4").stat().st_mtime_ns == before
    rows = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    assert [row["seed"] for row in rows] == [7, 7, 7, 7]
    for row in rows:
        assert row["steps"] == [0, 8, 16] and len(row["phases"]) == 3 and row["text"]
        assert read_frames(tmp_path / row["file_name"]).shape == (3, 64, 64, 3)


def test_windows_hold_the_frames_that_training_would_sample():
    from genreward_jax.windows import sampled_steps

    portion = render.Portion("reach", "fast", (), 0, last_step=256, stride=8, windows=True)
    wanted = {begin + offset for begin in (0, 128) for offset in sampled_steps(128, 16)}
    assert wanted <= set(portion.steps) and set(range(0, 257, 8)) <= set(portion.steps)
