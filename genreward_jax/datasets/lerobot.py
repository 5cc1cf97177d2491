"""LeRobot data sets, v2.0, v2.1 and v3.0, read from their own files: JSON lines or parquet, and mp4.

No torch here, and no ``lerobot``, which cannot be installed beside this project's pins. v2.x has one mp4 an episode
and a camera, and its lists in ``meta/episodes.jsonl`` and ``meta/tasks.jsonl``; v3.0 has many episodes in one mp4, and
``meta/episodes/chunk-*/file-*.parquet`` says from which second to which.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax.datasets.clips import BadVideo, Episode, inside
from genreward_jax.errors import UserError

VERSIONS = ("v2.0", "v2.1", "v3.0")
NOTES = ("behaviour", "label", "seed")  # columns of the episodes' list that say more; :mod:`lerobot_writer` has them


def find(folder: Path, camera: str = "", limit: int = 0, captions: bool = True) -> tuple[list[Episode], list[str]]:
    """Episodes of a LeRobot data set, not opened yet.

    Args:
        folder: Holds ``meta/info.json``.
        camera: Which video, or the end of its name; '' is the first.
        limit: Only so many from the start; 0 is all.
        captions: Whether an episode without a sentence is a bad one.

    Returns:
        The episodes, and a line for each that cannot be used ('name: what is wrong').

    Raises:
        UserError: Another version, no such camera, no video feature, or lists that cannot be read.
    """
    info = _json(folder / "meta" / "info.json")
    version = str(info.get("codebase_version", "none"))
    if version not in VERSIONS:
        raise UserError(f"'{folder}' is a LeRobot data set of version {version}; {', '.join(VERSIONS)} can be read.")
    camera = _camera(folder, info, camera)
    reader = _Third(folder, info, camera) if version == "v3.0" else _Second(folder, info, camera)
    episodes, bad = [], []
    for row in reader.rows(limit):
        name = f"episode {row.get('episode_index')}"
        try:
            episode = reader.episode(row)
            if captions and not episode.text:
                raise BadVideo(f"has no task in the data set's lists, so {episode.name} has no caption")
            episodes.append(episode)
        except BadVideo as error:
            bad.append(f"{name}: {error}")
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            bad.append(f"{name}: the data set's lists do not say where it is ({error!r})")
    return episodes, bad


def _camera(folder: Path, info: dict, wanted: str) -> str:
    features = info.get("features")
    if not isinstance(features, dict):
        raise UserError(f"'{folder / 'meta' / 'info.json'}' names no features; the download may be incomplete.")
    cameras = [name for name, entry in features.items() if entry.get("dtype") == "video" and not _is_depth(entry)]
    if not cameras:
        raise UserError(
            f"'{folder}' has no video feature (its pictures, if any, lie in parquet): only LeRobot data sets with mp4 "
            "files can be read."
        )
    if wanted and wanted not in cameras:  # the short name will do
        matching = [name for name in cameras if name.endswith(f".{wanted}")]
        if len(matching) != 1:
            raise UserError(f"There is no camera '{wanted}' in '{folder}': there are {', '.join(cameras)}.")
        return matching[0]
    return wanted or cameras[0]


def _is_depth(entry: dict) -> bool:
    about = {**(entry.get("video_info") or {}), **(entry.get("info") or {})}
    return bool(about.get("video.is_depth_map") or about.get("is_depth_map"))


class _Second:
    """v2.0 and v2.1."""

    def __init__(self, folder: Path, info: dict, camera: str) -> None:
        self._folder, self._info, self._camera = folder, info, camera
        tasks = _lines(folder / "meta" / "tasks.jsonl")
        self._tasks = {row.get("task_index"): row.get("task") for row in tasks}

    def rows(self, limit: int) -> list[dict]:
        rows = sorted(_lines(self._folder / "meta" / "episodes.jsonl"), key=lambda row: row.get("episode_index", 0))
        return rows[:limit] if limit else rows

    def episode(self, row: dict) -> Episode:
        index = int(row["episode_index"])
        where = {"episode_chunk": index // int(self._info.get("chunks_size", 1000)), "episode_index": index}
        name, path = _place(self._folder, self._info["video_path"], video_key=self._camera, **where)
        data = _place(self._folder, self._info["data_path"], **where)[1] if "data_path" in self._info else None
        text = _first_text(row.get("tasks"), self._tasks) or _text_of_frames(data, index, self._tasks)
        return Episode(name, path, text, count=int(row.get("length", 0)), index=index, data=data, notes=_notes(row))


class _Third:
    """v3.0."""

    def __init__(self, folder: Path, info: dict, camera: str) -> None:
        self._folder, self._info, self._camera = folder, info, camera
        self._tasks = _tasks_table(folder / "meta" / "tasks.parquet")

    def rows(self, limit: int) -> list[dict]:
        files = sorted((self._folder / "meta" / "episodes").glob("chunk-*/file-*.parquet"))
        if not files:
            raise UserError(f"'{self._folder}' has no meta/episodes/chunk-*/file-*.parquet; download it whole.")
        ours = ("episode_index", "tasks", "length", "data/chunk_index", "data/file_index", *NOTES)
        rows: list[dict] = []
        for file in files:  # the statistics beside these columns are most of such a file
            columns = [name for name in _columns(file) if name in ours or name.startswith(f"videos/{self._camera}/")]
            rows += _table(file, columns).to_pylist()
            if limit and len(rows) >= limit:
                break
        rows.sort(key=lambda row: row.get("episode_index") or 0)
        return rows[:limit] if limit else rows

    def episode(self, row: dict) -> Episode:
        index, camera = int(row["episode_index"]), f"videos/{self._camera}"
        where = {"chunk_index": int(row[f"{camera}/chunk_index"]), "file_index": int(row[f"{camera}/file_index"])}
        name, path = _place(self._folder, self._info["video_path"], video_key=self._camera, **where)
        data = None
        if row.get("data/file_index") is not None and "data_path" in self._info:
            where = {"chunk_index": int(row["data/chunk_index"]), "file_index": int(row["data/file_index"])}
            _, data = _place(self._folder, self._info["data_path"], **where)
        text = _first_text(row.get("tasks"), self._tasks) or _text_of_frames(data, index, self._tasks)
        start, end = float(row[f"{camera}/from_timestamp"]), float(row[f"{camera}/to_timestamp"])
        if not 0 <= start < end:
            raise BadVideo(f"spans {start} s to {end} s of {name}, which is no time")
        name, count = f"{name} (episode {index})", int(row.get("length") or 0)
        return Episode(name, path, text, start, end, count, index, data, _notes(row))


def steps(episode: Episode, columns: tuple[str, ...]) -> dict[str, np.ndarray]:
    """What was recorded beside an episode's video, a row a frame.

    Args:
        episode: From :func:`find`.
        columns: Names such as 'action' and 'next.reward'.

    Returns:
        (L,) or (L, D) for each column that the file has, in the order of frames; nothing where there is no file.

    Raises:
        UserError: A file that cannot be read.
        BadVideo: A file in which the episode does not occur, or a column without one shape.
    """
    if episode.data is None or not episode.data.is_file():
        return {}
    there = _columns(episode.data)
    wanted = [name for name in columns if name in there]
    table = _table(episode.data, [*wanted, *(name for name in ("episode_index", "frame_index") if name in there)])
    ours = np.ones(len(table), bool)
    if "episode_index" in there:
        ours = table["episode_index"].to_numpy() == episode.index
    if not ours.any():
        raise BadVideo(f"does not occur in {episode.data.name}")
    places = np.flatnonzero(ours)
    if "frame_index" in there:
        places = places[np.argsort(table["frame_index"].to_numpy()[places], kind="stable")]
    try:
        return {name: np.array(table[name].take(places).to_pylist()) for name in wanted}
    except ValueError as error:
        raise BadVideo(f"has rows of different lengths in {episode.data.name} ({error})") from error


def _notes(row: dict) -> dict[str, Any]:
    return {name: row[name] for name in NOTES if row.get(name) is not None}


def _first_text(entries: Any, tasks: dict) -> str:
    """The first entry that says something; some data sets write task numbers in place of sentences."""
    for entry in entries if isinstance(entries, list) else [entries]:
        text = tasks.get(entry) if isinstance(entry, int) else entry
        if isinstance(text, str) and text.strip():
            return text.strip()
    return ""


def _text_of_frames(path: Path | None, episode: int, tasks: dict) -> str:
    """The task that an episode's first frame is labelled with."""
    if path is None or not path.is_file():
        return ""
    table = _table(path, ["episode_index", "task_index"])
    for row in table.to_pylist():
        if row["episode_index"] == episode:
            return _first_text(row["task_index"], tasks)
    return ""


def _place(folder: Path, template: str, **values: Any) -> tuple[str, Path]:
    name = str(template).format(**values)
    return name, inside(folder, name)


def _tasks_table(path: Path) -> dict[int, str]:
    """Number to sentence; pandas wrote the sentences as the table's index, under a name that has changed."""
    if not path.is_file():
        return {}
    table = _table(path, None)
    texts = [name for name in table.column_names if name != "task_index"]
    if "task_index" not in table.column_names or not texts:
        return {}
    texts.sort(key=lambda name: name not in ("task", "__index_level_0__"))
    return dict(zip(table["task_index"].to_pylist(), table[texts[0]].to_pylist(), strict=True))


def _columns(path: Path) -> list[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        return list(pyarrow.parquet.read_schema(path).names)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise _unreadable(path, error) from error


def _table(path: Path, columns: list[str] | None) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path).read(columns=columns)
    except (OSError, KeyError, pyarrow.ArrowInvalid) as error:
        raise _unreadable(path, error) from error


def _json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _lines(path: Path) -> list[dict]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [row for row in rows if isinstance(row, dict)]
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(f"'{path}' cannot be read ({reason}); get this file of the LeRobot data set again.")
