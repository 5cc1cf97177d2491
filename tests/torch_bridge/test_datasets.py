"""Data of fine-tuning: every form is read as it lies on the disk, and what is wrong with a video is a line by name."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genreward_jax.datasets import clips
from genreward_jax.datasets.clips import BadVideo, Episode
from genreward_jax.errors import UserError
from tests.torch_bridge.tiny_videos import frames, numbers, rows, write
from torch_bridge.training import video_folder


def usable(folder: Path, **options) -> tuple[list[Episode], list[str]]:
    episodes, bad = video_folder.find(folder, **options)
    good, more = video_folder.check(episodes)
    return good, bad + more


class TestVideoFolder:
    def test_captions_and_subfolders(self, tmp_path):
        write(tmp_path / "a.mp4", frames(5))
        write(tmp_path / "deep" / "er" / "b.mp4", frames(7))
        rows(
            tmp_path,
            {"file_name": "a.mp4", "text": " push the block ", "more": 1},
            {"file_name": "deep/er/b.mp4", "caption": "open the door"},
        )
        episodes, bad = usable(tmp_path)
        assert not bad
        assert [(e.name, e.text) for e in episodes] == [("a.mp4", "push the block"), ("deep/er/b.mp4", "open the door")]
        assert [clips.length(e) for e in episodes] == [5, 7]

    def test_each_bad_entry_is_named_and_the_good_ones_stay(self, tmp_path):
        for name in ("good.mp4", "good2.mp4"):
            write(tmp_path / name, frames(5))
        write(tmp_path / "one.mp4", frames(1))
        write(tmp_path / "wide.mp4", frames(5, size=(64, 96)))
        write(tmp_path / "tiny.mp4", frames(5, size=(16, 16)))
        write(tmp_path.parent / "outside.mp4", frames(5))
        whole = write(tmp_path / "cut.mp4", frames(20)).read_bytes()
        (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "words.mp4").write_text("no video at all")
        (tmp_path / "lfs.mp4").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        (tmp_path / "folder.mp4").mkdir()
        names = "good good2 one wide tiny cut words lfs folder missing ../outside".split()
        entries = [{"file_name": f"{name}.mp4", "text": "x"} for name in names]
        rows(
            tmp_path,
            *entries,
            {"file_name": str(tmp_path.parent / "outside.mp4"), "text": "x"},
            {"file_name": "good.mp4"},
            {"file_name": "good.mp4", "text": "  "},
            {"file_name": "good.mp4", "text": 3},
            {"text": "x"},
            "[1, 2]",
            "{not json",
        )
        episodes, bad = usable(tmp_path)
        assert [e.name for e in episodes] == ["good.mp4", "good2.mp4"]
        said = "\n".join(bad)
        for words in (
            "one.mp4: has 1 frame;",
            "wide.mp4: is 96x64, but most are 64x64",
            "tiny.mp4: is 16x16",
            "cut.mp4: cannot be read",
            "words.mp4: cannot be read",
            "lfs.mp4: is a placeholder of git-lfs",
            "folder.mp4: is not there",
            "missing.mp4: is not there",
            "line 11: ../outside.mp4 leads out of the data folder",
            f"line 12: {tmp_path.parent / 'outside.mp4'} leads out",
            "line 13: good.mp4 has no caption",
            "line 14: good.mp4 has no caption",
            "line 15: good.mp4 has no caption",
            "line 16: has no file_name",
            "line 17: has no file_name",
            "line 18: is no JSON",
        ):
            assert words in said, said
        assert len(bad) == 16

    def test_other_sizes_are_taken_on_request(self, tmp_path):
        write(tmp_path / "a.mp4", frames(5))
        write(tmp_path / "b.mp4", frames(5, size=(64, 96)))
        rows(tmp_path, *({"file_name": f"{n}.mp4", "text": "x"} for n in "ab"))
        good, bad = video_folder.check(video_folder.find(tmp_path)[0], sizes="any")
        assert len(good) == 2 and not bad

    def test_refused_or_skipped(self, tmp_path):
        bad = [f"v{i}.mp4: is not there" for i in range(30)]
        with pytest.raises(UserError, match="30 bad videos of 31") as refused:
            video_folder.complain(tmp_path, 1, bad, skip=False)
        assert "v19.mp4" in str(refused.value) and "v20.mp4" not in str(refused.value)
        assert "and 10 more" in str(refused.value) and "--bad skip" in str(refused.value)
        assert "Left out 30 bad videos of 31" in video_folder.complain(tmp_path, 1, bad, skip=True)
        for skip in (False, True):
            with pytest.raises(UserError, match="No usable video"):
                video_folder.complain(tmp_path, 0, bad, skip)
        assert video_folder.complain(tmp_path, 3, [], skip=False) == ""

    def test_no_data_set(self, tmp_path):
        with pytest.raises(UserError, match="no data folder"):
            video_folder.find(tmp_path / "nothing")
        with pytest.raises(UserError, match="neither metadata.jsonl"):
            video_folder.find(tmp_path)
        rows(tmp_path / "train", {"file_name": "a.mp4", "text": "x"})
        with pytest.raises(UserError, match="is it '.*train' that you mean"):
            video_folder.find(tmp_path)
        with pytest.raises(UserError, match="--camera front is for LeRobot"):
            video_folder.find(tmp_path / "train", camera="front")
        (tmp_path / "metadata.jsonl").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UserError, match="UTF-8"):
            video_folder.find(tmp_path)

    def test_limit_counts_entries(self, tmp_path):
        rows(tmp_path, *({"file_name": f"{n}.mp4", "text": "x"} for n in "abcd"))
        assert [e.name for e in video_folder.find(tmp_path, limit=2)[0]] == ["a.mp4", "b.mp4"]


def info(folder: Path, version: str, cameras: tuple[str, ...] = ("observation.images.front",), **more) -> None:
    features = {name: {"dtype": "video", "shape": [64, 64, 3], "info": {"video.fps": 10}} for name in cameras}
    features["observation.images.depth"] = {"dtype": "video", "info": {"video.is_depth_map": True}}
    features["observation.state"] = {"dtype": "float32", "shape": [2]}
    content = {"codebase_version": version, "fps": 10, "chunks_size": 1000, "features": features, **more}
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    (folder / "meta" / "info.json").write_text(json.dumps(content))


def second(folder: Path, version: str, lists: dict | None = None) -> Path:
    """v2.0 or v2.1 with two cameras and three episodes of 6, 8 and 10 frames, two episodes a chunk."""
    info(
        folder,
        version,
        ("observation.images.front", "observation.images.wrist"),
        chunks_size=2,
        video_path="videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        data_path="data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    )
    tasks = ["lift the cup", "close the jar"]
    lines = [json.dumps({"task_index": i, "task": task}) for i, task in enumerate(tasks)]
    (folder / "meta" / "tasks.jsonl").write_text("\n".join(lines))
    episodes = [{"episode_index": i, "tasks": [tasks[i % 2]], "length": 6 + 2 * i} for i in range(3)]
    for row in episodes:
        row.update((lists or {}).get(row["episode_index"], {}))
        for key, first in (("front", 0), ("wrist", 30)):
            index = row["episode_index"]
            name = f"videos/chunk-{index // 2:03d}/observation.images.{key}/episode_{index:06d}.mp4"
            write(folder / name, frames(6 + 2 * index, first))
    (folder / "meta" / "episodes.jsonl").write_text("\n".join(map(json.dumps, reversed(episodes))))
    return folder


def third(folder: Path, codec: str = "libx264rgb", tasks_column: bool = True) -> Path:
    """v3.0: episodes of 6 and 8 frames in one mp4, one of 10 in the next; episodes in two parquet files."""
    info(
        folder,
        "v3.0",
        video_path="videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        data_path="data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    )
    key = "observation.images.front"
    write(folder / f"videos/{key}/chunk-000/file-000.mp4", frames(14), codec)
    write(folder / f"videos/{key}/chunk-000/file-001.mp4", frames(10, 20), codec)
    tasks = ["lift the cup", "close the jar"]
    table = pa.table({"task_index": [0, 1], "__index_level_0__": tasks})
    pq.write_table(table, folder / "meta" / "tasks.parquet")
    spans = [(0, 0.0, 0.6), (0, 0.6, 1.4), (1, 0.0, 1.0)]
    lists = []
    for index, (file, start, end) in enumerate(spans):
        row = {
            "episode_index": index,
            "length": round((end - start) * 10),
            "data/chunk_index": 0,
            "data/file_index": 0,
            f"videos/{key}/chunk_index": 0,
            f"videos/{key}/file_index": file,
            f"videos/{key}/from_timestamp": start,
            f"videos/{key}/to_timestamp": end,
            "stats/action/mean": [0.0, 1.0],
        }
        lists.append(row | ({"tasks": [tasks[index % 2]]} if tasks_column else {}))
    for number, part in enumerate((lists[:2], lists[2:])):
        path = folder / f"meta/episodes/chunk-000/file-{number:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(part), path)
    (folder / "data/chunk-000").mkdir(parents=True)
    labels = {"episode_index": [0] * 6 + [1] * 8 + [2] * 10, "task_index": [0] * 6 + [1] * 8 + [0] * 10}
    pq.write_table(pa.table(labels), folder / "data/chunk-000/file-000.parquet")
    return folder


class TestLeRobot:
    @pytest.mark.parametrize("version", ["v2.0", "v2.1"])
    def test_second_version(self, tmp_path, version):
        episodes, bad = usable(second(tmp_path, version))
        assert not bad
        assert [e.text for e in episodes] == ["lift the cup", "close the jar", "lift the cup"]
        assert episodes[2].name == "videos/chunk-001/observation.images.front/episode_000002.mp4"
        assert [clips.length(e) for e in episodes] == [6, 8, 10]
        assert numbers(clips.read(episodes[1], np.arange(8), (64, 64))) == list(range(8))

    def test_another_camera_by_its_short_name(self, tmp_path):
        episodes, _ = usable(second(tmp_path, "v2.1"), camera="wrist")
        assert numbers(clips.read(episodes[0], np.arange(3), (64, 64))) == [30, 31, 32]
        with pytest.raises(UserError, match="no camera 'top'.*front, observation.images.wrist"):
            video_folder.find(tmp_path, camera="top")

    def test_captions_that_are_missing_or_numbers(self, tmp_path):
        lists = {0: {"tasks": []}, 1: {"tasks": [1]}, 2: {"tasks": [""]}}
        second(tmp_path, "v2.0", lists)
        path = tmp_path / "data/chunk-000/episode_000000.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"episode_index": [0, 0], "task_index": [0, 0]}), path)
        episodes, bad = usable(tmp_path)
        assert [e.text for e in episodes] == ["lift the cup", "close the jar"]
        assert len(bad) == 1 and "episode 2: has no task" in bad[0]

    @pytest.mark.parametrize("codec", ["libx264rgb", "libsvtav1"])
    def test_third_version_has_many_episodes_in_a_file(self, tmp_path, codec):
        episodes, bad = usable(third(tmp_path, codec))
        assert not bad
        assert [e.text for e in episodes] == ["lift the cup", "close the jar", "lift the cup"]
        assert [clips.length(e) for e in episodes] == [6, 8, 10]
        seen = [numbers(clips.read(e, np.arange(clips.length(e)), (64, 64))) for e in episodes]
        assert seen == [list(range(6)), list(range(6, 14)), list(range(20, 30))]
        assert len(usable(tmp_path, limit=2)[0]) == 2

    def test_third_version_without_captions_in_its_lists(self, tmp_path):
        episodes, bad = usable(third(tmp_path, tasks_column=False))
        assert not bad and [e.text for e in episodes] == ["lift the cup", "close the jar", "lift the cup"]

    def test_a_span_beyond_the_file(self, tmp_path):
        episodes, _ = video_folder.find(third(tmp_path))
        longer = Episode("x", episodes[1].path, "x", 0.6, 2.4, 18)
        with pytest.raises(BadVideo, match="ends after 8"):
            clips.read(longer, np.arange(18), (64, 64))
        beyond = Episode("y", episodes[1].path, "x", 5.0, 6.0, 10)
        assert "begins at 5.00 s" in video_folder.check([beyond])[1][0]

    def test_a_span_whose_end_is_its_last_frame_and_one_that_is_too_short(self, tmp_path):
        first, second, _ = video_folder.find(third(tmp_path))[0]
        inclusive = Episode("x", second.path, "x", 0.6, 1.3, 8)
        assert numbers(clips.read(inclusive, np.arange(8), (64, 64))) == list(range(6, 14))
        wrong = Episode("y", first.path, "y", 0.0, 0.6, 12)  # not the next episode's frames instead
        with pytest.raises(BadVideo, match="ends after 7 of its 12"):
            clips.read(wrong, np.arange(12), (64, 64))

    def test_what_a_sentence_refuses(self, tmp_path):
        second(tmp_path, "v2.1")
        info(tmp_path, "v1.6")
        with pytest.raises(UserError, match="version v1.6; v2.0, v2.1, v3.0"):
            video_folder.find(tmp_path)
        info(tmp_path, "v3.0")
        with pytest.raises(UserError, match="download it whole"):
            video_folder.find(tmp_path)
        info(tmp_path, "v2.1", cameras=())
        with pytest.raises(UserError, match="no video feature"):
            video_folder.find(tmp_path)
        (tmp_path / "meta" / "episodes.jsonl").unlink()
        info(tmp_path, "v2.1")
        with pytest.raises(UserError, match="episodes.jsonl' cannot be read"):
            video_folder.find(tmp_path)
        (tmp_path / "meta" / "info.json").write_text("{")
        with pytest.raises(UserError, match="info.json' cannot be read"):
            video_folder.find(tmp_path)

    def test_broken_parquet_and_templates_that_lead_out(self, tmp_path):
        third(tmp_path)
        file = tmp_path / "meta/episodes/chunk-000/file-001.parquet"
        file.write_bytes(b"PAR1nothing")
        with pytest.raises(UserError, match="file-001.parquet' cannot be read"):
            video_folder.find(tmp_path)
        file.unlink()
        info(tmp_path, "v3.0", video_path="../../{video_key}.mp4", data_path="x")
        assert "leads out" in video_folder.find(tmp_path)[1][0]
        info(tmp_path, "v3.0", video_path="{nothing}.mp4", data_path="x")
        assert "lists do not say where it is" in video_folder.find(tmp_path)[1][0]


class TestFrames:
    def test_the_whole_video_evenly_or_every_kth(self):
        assert clips.places(33, 17).tolist() == list(range(0, 33, 2))
        assert clips.places(3, 5).tolist() == [0, 0, 1, 2, 2]  # shorter than the model's: frames stay longer
        assert clips.places(100, 5, stride=3).tolist() == [0, 3, 6, 9, 12]
        assert clips.places(8, 5, stride=3).tolist() == [0, 3, 6, 7, 7]

    def test_only_wanted_frames_at_the_wanted_size(self, tmp_path):
        episode = Episode("a", write(tmp_path / "a.mp4", frames(20, size=(64, 96))), "x")
        taken = clips.read(episode, np.array([0, 5, 5, 19]), (32, 32))
        assert taken.shape == (4, 32, 32, 3) and taken.dtype == np.uint8
        assert numbers(taken) == [0, 5, 5, 19]

    def test_cropped_and_padded(self):
        square = np.zeros((60, 60, 3), np.uint8)
        square[:, 15:45] = 200
        square[:, 0] = 90
        cropped, padded = clips.fitted(square, (40, 60)), clips.fitted(square, (40, 60), "pad")
        assert cropped.shape == padded.shape == (40, 60, 3)
        assert np.array_equal(cropped, square[10:50])
        assert (padded[:, :10] == padded[:, 10:11]).all() and (padded[:, 50:] == padded[:, 49:50]).all()
        assert (padded[:, 25:35] == 200).all()  # the middle is still the middle

    def test_a_video_that_ends_early(self, tmp_path):
        episode = Episode("a", write(tmp_path / "a.mp4", frames(6)), "x")
        with pytest.raises(BadVideo, match="ends after 6 of its 10"):
            clips.read(episode, np.array([0, 9]), (64, 64))

    def test_sizes_that_suit_no_model(self):
        clips.check_size((64, 96), 16)
        with pytest.raises(UserError, match="--height 70 .* multiple of 16, such as 64"):
            clips.check_size((70, 96), 16)
        with pytest.raises(UserError, match="--width 16"):
            clips.check_size((64, 16), 16)
