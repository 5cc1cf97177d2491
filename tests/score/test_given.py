"""A user's own episodes: what is read, what is filled in, and that every bad file is named in one sentence."""

import json

import numpy as np
import pytest

from genreward_jax.datasets import lerobot_writer
from genreward_jax.errors import UserError
from genreward_jax.score import given, metrics
from tests.score.small import episode, valued
from tests.torch_bridge.tiny_videos import frames, numbers, rows, write


def npz(path, count: int = 5, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{"frames": frames(count), **arrays})


def refused(folder, **options) -> str:
    with pytest.raises(UserError) as error:
        given.load(folder, **options)
    return str(error.value)


class TestMovies:
    def test_labels_by_folder(self, tmp_path):
        for name in ("expert/ep2.mp4", "expert/ep10.mp4", "random/a.mp4", "loose.mp4"):
            write(tmp_path / name, frames(6, size=(48, 64)))
        found = given.load(tmp_path)
        assert [t.behaviour for t in found] == ["given", "expert", "expert", "random"]
        assert [t.seed for t in found] == [0, 1, 2, 3] and {t.task for t in found} == {""}
        first = found[0]
        assert first.frames.shape == (6, 48, 64, 3) and numbers(first.frames) == list(range(6))
        assert first.actions.shape == (6, 1) and first.actions.dtype == np.float32 and not first.actions.any()
        assert first.rewards.shape == (6,) and first.rewards.dtype == np.float32 and not first.rewards.any()
        assert first.success.dtype == bool and first.success_step == -1 and first.length == 5

    def test_labels_and_outcomes_by_metadata(self, tmp_path):
        for name in ("a.mp4", "sub/b.mp4", "c.mp4", "success/d.mp4", "sub/e.mp4"):
            write(tmp_path / name, frames(4))
        rows(
            tmp_path,
            {"file_name": "a.mp4", "label": "expert", "seed": 7, "success": True},
            {"file_name": "sub/b.mp4", "label": "random", "seed": 7, "success": False},
        )
        found = {t.behaviour: t for t in given.load(tmp_path)}
        assert list(found) == ["expert", "given", "random", "sub", "success"]
        assert found["expert"].success.tolist() == [False] * 3 + [True] and found["expert"].seed == 7
        assert not found["random"].success.any() and found["random"].seed == 7
        assert found["success"].success_step == 3

    def test_size_and_limit(self, tmp_path):
        for name in "abc":
            write(tmp_path / f"{name}.mp4", frames(4, size=(64, 96)))
        found = given.load(tmp_path, limit=2, size=32)
        assert [t.frames.shape for t in found] == [(4, 32, 32, 3)] * 2

    def test_they_can_be_ranked(self, tmp_path):
        for name in ("expert/a.mp4", "random/b.mp4"):
            write(tmp_path / name, frames(5))
        figures = metrics.measure(given.load(tmp_path), [valued(np.arange(5)), valued(np.zeros(5))])
        assert figures["ranking/every_step/auc_expert_vs_random"]["value"] == 1


class TestArrays:
    def test_whole_and_shorter_columns(self, tmp_path):
        actions, rewards = np.arange(8.0).reshape(4, 2), np.array([1.0, 2, 3, 4])
        npz(tmp_path / "t.npz", actions=actions, rewards=rewards, success=[False, False, True, False])
        npz(tmp_path / "u.npz", actions=np.ones((5, 2)), rewards=[9.0, 1, 2, 3, 4], success=True, behaviour="expert")
        first, second = given.load(tmp_path)
        assert first.actions.tolist() == [*actions.tolist(), [0, 0]]
        assert first.rewards.tolist() == second.rewards.tolist() == [0, 1, 2, 3, 4]
        assert first.success.tolist() == [False, False, False, True, False]
        assert second.success.tolist() == [False] * 4 + [True] and second.behaviour == "expert"

    def test_each_bad_file_is_named(self, tmp_path):
        good = np.zeros((4, 2))
        npz(tmp_path / "actions.npz", actions=np.zeros((3, 2)))
        npz(tmp_path / "rewards.npz", rewards=[0, np.nan, 0, 0, 0])
        npz(tmp_path / "wide.npz", rewards=good)
        npz(tmp_path / "words.npz", actions=np.array(["a"] * 4))
        npz(tmp_path / "success.npz", success=[True, False])
        npz(tmp_path / "seed.npz", seed="x")
        np.savez(tmp_path / "float.npz", frames=np.zeros((5, 32, 32, 3)))
        np.savez(tmp_path / "empty.npz", pictures=frames(3))
        np.savez(tmp_path / "small.npz", frames=frames(3, size=(16, 16)))
        np.savez(tmp_path / "objects.npz", frames=np.array([{}], dtype=object))
        (tmp_path / "cut.npz").write_bytes((tmp_path / "float.npz").read_bytes()[:300])
        (tmp_path / "text.npz").write_text("no arrays")
        (tmp_path / "cut.mp4").write_text("no video")
        rows(tmp_path, {"file_name": "gone.mp4"}, {"label": "x"}, "{no json")
        said = refused(tmp_path)
        for words in (
            "16 episodes of 16",
            "actions.npz: has 5 frames but 3 actions; there must be 4 or 5",
            "rewards.npz: has rewards that are not finite",
            "wide.npz: has rewards of shape (4, 2)",
            "words.npz: has actions that are no numbers",
            "success.npz: has a success of bool (2,)",
            "seed.npz: has the seed",
            "float.npz: has frames of float64",
            "empty.npz: holds no 'frames' but pictures",
            "small.npz: is 16x16",
            "objects.npz: cannot be read",
            "cut.npz: cannot be read",
            "text.npz: cannot be read (it is no npz file",
            "cut.mp4: cannot be read",
            "names gone.mp4, which is not there",
            "line 2: has no file_name",
            "line 3: is no JSON",
        ):
            assert words in said, said


class TestLeRobot:
    def write(self, folder):
        episodes = [episode("expert", 3, [0, 1, 2, 3], success_at=3), episode("random", 3, [0, 1, 0])]
        lerobot_writer.write(folder, episodes, ["push", "push"], fps=10)
        return folder

    def test_behaviour_seed_and_the_last_success_come_back(self, tmp_path):
        expert, other = given.load(self.write(tmp_path / "data"))
        assert (expert.behaviour, expert.seed, other.behaviour) == ("expert", 3, "random")
        assert expert.success_step == 3 and expert.rewards.tolist() == [0, 1, 2, 3] and not other.success.any()
        assert [t.frames.shape for t in given.load(tmp_path / "data", size=64)] == [(4, 64, 64, 3), (3, 64, 64, 3)]

    def test_a_foreign_set_has_labels_in_no_list(self, tmp_path):
        """Captions may be missing too: no reward needs them."""
        import pyarrow.parquet as pq

        folder = self.write(tmp_path / "data")
        lists = folder / "meta/episodes/chunk-000/file-000.parquet"
        pq.write_table(pq.read_table(lists).drop_columns(["behaviour", "seed", "tasks"]), lists)
        (folder / "meta" / "tasks.parquet").unlink()
        found = given.load(folder)
        assert [(t.behaviour, t.seed) for t in found] == [("given", 0), ("given", 1)]

    def test_a_success_that_only_the_last_row_knows(self, tmp_path):
        """Other people's episodes end at their success, whose frame they do not keep."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = self.write(tmp_path / "data")
        file = folder / "data/chunk-000/file-000.parquet"
        table = pq.read_table(file)
        place = table.column_names.index("next.success")
        said = pa.array([False, False, False, True, False, False, False])
        pq.write_table(table.set_column(place, "next.success", said), file)
        assert [t.success_step for t in given.load(folder)] == [3, -1]

    def test_rows_that_do_not_fit_the_video(self, tmp_path):
        import pyarrow.parquet as pq

        folder = self.write(tmp_path / "data")
        file = folder / "data/chunk-000/file-000.parquet"
        pq.write_table(pq.read_table(file).slice(1), file)
        assert "has 4 frames but 3 rows of action" in refused(folder)
        pq.write_table(pq.read_table(file).slice(3), file)
        assert "does not occur in file-000.parquet" in refused(folder)
        assert "no camera 'top'" in refused(folder, camera="top")


def test_what_is_no_folder_of_episodes(tmp_path):
    assert "There is no folder" in refused(tmp_path / "none")
    assert "holds no episodes" in refused(tmp_path)
    write(tmp_path / "a.mp4", frames(1))
    assert "is for LeRobot data sets" in refused(tmp_path, camera="front")
    assert "a.mp4: has frames of uint8 (1, 64, 64, 3)" in refused(tmp_path)
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text(json.dumps({"codebase_version": "v9"}))
    assert "version v9" in refused(tmp_path)


def test_more_than_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(given, "MOST", 40_000)
    write(tmp_path / "a.mp4", frames(4))
    assert "a.mp4: has 4 frames of 64x64, more than can be held" in refused(tmp_path)
    (tmp_path / "a.mp4").unlink()
    for name in "ab":
        npz(tmp_path / f"{name}.npz", 2)
    assert "from b.npz on" in refused(tmp_path)
