"""What is written as a LeRobot data set is what was played, read back by our reader and by plain parquet."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from genreward_jax.datasets import clips, lerobot, lerobot_writer
from genreward_jax.errors import UserError
from genreward_jax.score import given
from genreward_jax.score.trajectories import Trajectory
from torch_bridge.training import video_folder


def played(seed: int, length: int, size: int = 32) -> Trajectory:
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (length + 1, 4)).astype(np.float32)
    actions[-1] = 0
    rewards = rng.uniform(0, 10, length + 1).astype(np.float32)
    rewards[0] = 0
    success = np.arange(length + 1) >= (length - 1 if seed % 2 else length + 1)
    frames = rng.integers(0, 256, (length + 1, size, size, 3)).astype(np.uint8)
    return Trajectory("reach", "run", seed, frames, actions, rewards, success)


EPISODES = [played(0, 5), played(1, 9), played(2, 7)]
TEXTS = ["a failed attempt: a robot arm reaches", "a robot arm reaches", "a failed attempt: a robot arm reaches"]


@pytest.fixture
def folder(tmp_path):
    lerobot_writer.write(tmp_path / "data", EPISODES, TEXTS, fps=16)
    return tmp_path / "data"


def test_the_round_trip_is_exact(folder):
    """Frames too: the video is lossless, so rewards of models are the same."""
    for wanted, found in zip(EPISODES, given.load(folder), strict=True):
        for name in ("frames", "actions", "rewards", "success", "behaviour", "seed"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)
            assert np.asarray(getattr(found, name)).dtype == np.asarray(getattr(wanted, name)).dtype


def test_fine_tuning_reads_it(folder):
    episodes, bad = video_folder.find(folder)
    good, more = video_folder.check(episodes)
    assert not bad and not more and [e.text for e in good] == TEXTS
    assert [clips.length(e) for e in good] == [6, 10, 8]


def test_parquet_says_what_lerobot_reads(folder):
    rows = pq.read_table(folder / "data/chunk-000/file-000.parquet").to_pylist()
    info = json.loads((folder / "meta/info.json").read_text())
    assert len(rows) == info["total_frames"] == 24 and info["total_episodes"] == 3 and info["total_tasks"] == 2
    assert [row["index"] for row in rows] == list(range(24))
    second = rows[6:16]
    assert [row["episode_index"] for row in second] == [1] * 10 and [row["task_index"] for row in second] == [1] * 10
    assert [row["frame_index"] for row in second] == list(range(10))
    assert [row["timestamp"] for row in second] == pytest.approx(np.arange(10) / 16)
    assert [row["next.done"] for row in second] == [False] * 9 + [True]
    # A row's reward and success are what its action led to.
    assert [row["next.reward"] for row in second] == pytest.approx([*EPISODES[1].rewards[1:], 0])
    assert [row["next.success"] for row in second] == [False] * 7 + [True] * 3
    columns = set(rows[0]) | {"observation.images.corner2"}
    assert columns == set(info["features"]) == set(json.loads((folder / "meta/stats.json").read_text()))
    lists = pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(row["dataset_from_index"], row["dataset_to_index"]) for row in lists] == [(0, 6), (6, 16), (16, 24)]
    assert lists[1]["tasks"] == [TEXTS[1]]
    note = json.loads(pq.read_schema(folder / "meta/tasks.parquet").metadata[b"pandas"])
    assert note["index_columns"] == ["task"]


def test_statistics_are_those_of_the_rows(folder):
    stats = json.loads((folder / "meta/stats.json").read_text())
    actions = np.concatenate([e.actions for e in EPISODES])
    np.testing.assert_allclose(stats["action"]["mean"], actions.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["action"]["q90"], np.quantile(actions, 0.9, axis=0), rtol=1e-5)
    picture = np.concatenate([e.frames for e in EPISODES]) / 255
    found = stats["observation.images.corner2"]
    np.testing.assert_allclose(np.ravel(found["std"]), picture.std((0, 1, 2)), rtol=1e-5)
    assert np.shape(found["mean"]) == (3, 1, 1) and found["count"] == [24]


def test_steps_of_an_episode_come_in_the_order_of_its_frames(folder):
    file = folder / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    pq.write_table(table.take(np.random.default_rng(0).permutation(len(table))), file)
    np.testing.assert_array_equal(given.load(folder)[1].actions, EPISODES[1].actions)
    episode = lerobot.find(folder)[0][0]
    assert lerobot.steps(episode, ("nothing",)) == {}


def test_a_place_that_is_taken_is_refused_and_left_alone(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="data.* is not empty"):
        lerobot_writer.write(tmp_path / "data", EPISODES, TEXTS, fps=16)
    with pytest.raises(UserError, match="is a file"):
        lerobot_writer.check_target(tmp_path / "data" / "mine.txt")
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    lerobot_writer.write(tmp_path / "empty", EPISODES, TEXTS, fps=16)
    assert (tmp_path / "empty" / "meta" / "info.json").is_file()


def test_what_is_no_data_set_leaves_nothing(tmp_path):
    with pytest.raises(ValueError):
        lerobot_writer.write(tmp_path / "data", [played(0, 5), played(1, 5, size=64)], TEXTS[:2], fps=16)
    assert not list(tmp_path.iterdir())
