"""Episodes as a LeRobot data set of version 3.0: parquet and one lossless mp4, which ``lerobot`` itself reads too.

Row t has the frame that is seen, the action taken there, and under ``next.`` the reward and the success that the action
led to. An episode of T steps has T + 1 rows: the last shows where it ended, its action and reward are zeros and
``next.done`` is true.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from genreward_jax.cache import make_once
from genreward_jax.errors import UserError
from genreward_jax.video import write_frames

VERSION = "v3.0"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
FIRST = {"chunk_index": 0, "file_index": 0}  # everything is in the first file of each kind
QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
LOOKED_AT = 256  # frames from which the pictures' statistics are taken


class Recorded(Protocol):
    """What is written of an episode: rows as in :class:`genreward_jax.score.trajectories.Trajectory`."""

    behaviour: str
    seed: int
    frames: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    success: np.ndarray


def check_target(folder: Path) -> None:
    """Refuses a place where a data set cannot be put, before anything is played.

    Raises:
        UserError: A file, or a folder that is not empty.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"The data folder '{folder}' (DATA=) is a file; name a folder that is not there yet.")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"The data folder '{folder}' (DATA=) is not empty; name one that is not there yet.")


def write(
    folder: Path,
    episodes: Sequence[Recorded],
    texts: Sequence[str],
    fps: int,
    robot: str = "sawyer",
    camera: str = "corner2",
) -> None:
    """Writes a data set; the folder appears complete or not at all.

    Args:
        folder: Not there yet, or empty.
        episodes: At least one, all with frames of one size and actions of one.
        texts: What each shows, in a sentence.
        fps: Frames a second, a whole number as LeRobot wants it; an agent step is a frame.
        robot, camera: Their names in the data set.

    Raises:
        UserError: See :func:`check_target`.
    """
    check_target(folder)
    shapes = {(e.frames.shape[1:], e.actions.shape[1:]) for e in episodes}
    if len(shapes) != 1 or len(texts) != len(episodes):
        raise ValueError(f"{len(episodes)} episodes with {len(texts)} texts and shapes {shapes} are no data set")
    if folder.is_dir():
        folder.rmdir()
    make_once(folder, lambda made: _fill(made, episodes, texts, fps, robot, f"observation.images.{camera}"))


def _fill(folder: Path, episodes: Sequence[Recorded], texts: Sequence[str], fps: int, robot: str, key: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tasks = list(dict.fromkeys(texts))
    columns = _columns(episodes, [tasks.index(text) for text in texts], fps)
    size = columns["action"].shape[1]
    table = pa.table(
        {
            name: pa.FixedSizeListArray.from_arrays(column.ravel(), size) if column.ndim == 2 else column
            for name, column in columns.items()
        }
    )
    movie = folder / VIDEO.format(video_key=key, **FIRST)
    for path in (folder / DATA.format(**FIRST), folder / EPISODES, movie):
        path.parent.mkdir(parents=True)
    pq.write_table(table, folder / DATA.format(**FIRST))
    pq.write_table(_episode_table(episodes, texts, fps, key), folder / EPISODES)
    pq.write_table(_task_table(tasks), folder / "meta" / "tasks.parquet")
    write_frames(movie, _frames(episodes), fps)
    info = _info(episodes, columns, len(tasks), fps, robot, key)
    (folder / "meta" / "info.json").write_text(json.dumps(info, indent=4) + "\n")
    stats = {name: _statistics(column) for name, column in columns.items()} | {key: _picture_statistics(episodes)}
    (folder / "meta" / "stats.json").write_text(json.dumps(stats, indent=4) + "\n")


def _frames(episodes: Sequence[Recorded]) -> Iterator[np.ndarray]:
    for episode in episodes:
        yield from episode.frames


def _columns(episodes: Sequence[Recorded], tasks: list[int], fps: int) -> dict[str, np.ndarray]:
    """All rows of all episodes; what a row's action led to is in the row after it."""
    lengths = [len(e.frames) for e in episodes]
    ahead = lambda column: np.concatenate([column[1:], column[-1:]])  # noqa: E731
    frame = np.concatenate([np.arange(n) for n in lengths])
    return {
        "action": np.concatenate([e.actions for e in episodes]).astype(np.float32),
        "next.reward": np.concatenate([[*e.rewards[1:], 0] for e in episodes]).astype(np.float32),
        "next.success": np.concatenate([ahead(e.success) for e in episodes]).astype(bool),
        "next.done": np.concatenate([np.arange(n) == n - 1 for n in lengths]),
        "timestamp": (frame / fps).astype(np.float32),
        "frame_index": frame.astype(np.int64),
        "episode_index": np.repeat(np.arange(len(episodes)), lengths).astype(np.int64),
        "index": np.arange(sum(lengths), dtype=np.int64),
        "task_index": np.repeat(tasks, lengths).astype(np.int64),
    }


def _episode_table(episodes: Sequence[Recorded], texts: Sequence[str], fps: int, key: str) -> Any:
    import pyarrow as pa

    ends = np.cumsum([len(e.frames) for e in episodes])
    starts = ends - [len(e.frames) for e in episodes]
    nought = np.zeros(len(episodes), np.int64)
    return pa.table(
        {
            "episode_index": np.arange(len(episodes)),
            "tasks": [[text] for text in texts],
            "length": ends - starts,
            "data/chunk_index": nought,
            "data/file_index": nought,
            "dataset_from_index": starts,
            "dataset_to_index": ends,
            f"videos/{key}/chunk_index": nought,
            f"videos/{key}/file_index": nought,
            f"videos/{key}/from_timestamp": starts / fps,
            f"videos/{key}/to_timestamp": ends / fps,
            "meta/episodes/chunk_index": nought,
            "meta/episodes/file_index": nought,
            "behaviour": [e.behaviour for e in episodes],
            "seed": [int(e.seed) for e in episodes],
        }
    )


def _task_table(tasks: list[str]) -> Any:
    """Sentences as the table's index, which pandas finds by a note in the file: ``lerobot`` looks tasks up by it."""
    import pyarrow as pa

    table = pa.table({"task_index": np.arange(len(tasks)), "task": tasks})
    about = {"metadata": None, "name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object"}
    number = about | {name: "int64" for name in ("pandas_type", "numpy_type")}
    note = {
        "index_columns": ["task"],
        "column_indexes": [about | {"name": None, "field_name": None, "metadata": {"encoding": "UTF-8"}}],
        "columns": [number | {"name": "task_index", "field_name": "task_index"}, about],
        "pandas_version": "2.2.3",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(note)})


def _info(episodes: Sequence[Recorded], columns: dict, tasks: int, fps: int, robot: str, key: str) -> dict:
    height, width = episodes[0].frames.shape[1:3]
    features = {
        name: {"dtype": str(column.dtype), "shape": list(column.shape[1:]) or [1], "names": None}
        for name, column in columns.items()
    }
    features[key] = {
        "dtype": "video",
        "shape": [height, width, 3],
        "names": ["height", "width", "channels"],
        "info": {
            "video.height": height,
            "video.width": width,
            "video.channels": 3,
            "video.codec": "h264",
            "video.pix_fmt": "gbrp",
            "video.is_depth_map": False,
            "video.fps": fps,
            "has_audio": False,
        },
    }
    return {
        "codebase_version": VERSION,
        "robot_type": robot,
        "total_episodes": len(episodes),
        "total_frames": len(columns["index"]),
        "total_tasks": tasks,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": fps,
        "splits": {"train": f"0:{len(episodes)}"},
        "data_path": DATA,
        "video_path": VIDEO,
        "features": features,
    }


def _statistics(rows: np.ndarray) -> dict[str, list]:
    """Of (N,) or (N, D): lists of D numbers, and how many rows they come from."""
    rows = rows.reshape(len(rows), -1).astype(np.float64)
    found = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    found |= {f"q{round(100 * q):02d}": np.quantile(rows, q, axis=0) for q in QUANTILES}
    return {name: value.tolist() for name, value in found.items()} | {"count": [len(rows)]}


def _picture_statistics(episodes: Sequence[Recorded]) -> dict[str, list]:
    """Of the three colours, from 0 to 1, each in the (3, 1, 1) form of a picture."""
    total = sum(len(e.frames) for e in episodes)
    chosen = set(np.unique(np.linspace(0, total - 1, min(LOOKED_AT, total)).astype(int)).tolist())
    pixels = np.concatenate([f.reshape(-1, 3) for i, f in enumerate(_frames(episodes)) if i in chosen]) / 255.0
    found = _statistics(pixels)
    return {name: value if name == "count" else [[[x]] for x in value] for name, value in found.items()} | {
        "count": [len(chosen)]
    }
