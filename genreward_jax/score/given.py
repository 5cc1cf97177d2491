"""A user's own episodes as trajectories: mp4 files, npz files, or a LeRobot data set.

What a file does not say is filled in: unknown actions and rewards are zeros, an unknown outcome is no success. Frames
are an episode's rows: ``frames[t]`` is seen, ``actions[t]`` taken there, ``rewards[t + 1]`` earned by it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax.datasets import clips, lerobot
from genreward_jax.datasets.clips import BadVideo, Episode
from genreward_jax.errors import UserError
from genreward_jax.score.trajectories import Trajectory
from genreward_jax.video import natural_key

METADATA = "metadata.jsonl"
LABELS = ("behaviour", "label")  # keys that may hold the behaviour, the first that is there
GOOD = ("success", "successes", "successful")  # labels that say how an episode ended
SHOWN = 20  # bad files that are listed
MOST = 2**33  # bytes of frames; all episodes are held at once
ARRAYS = "frames (T + 1, H, W, 3) of uint8, actions (T, A), rewards (T,), success (T,)"


@dataclass
class _Source:
    """One episode's file, not read yet: what to call it, the folder's name for it, and how to read it."""

    name: str
    notes: Mapping[str, Any]
    read: Callable[[], dict[str, np.ndarray]]


def load(folder: str | Path, camera: str = "", limit: int = 0, size: int = 0) -> list[Trajectory]:
    """All episodes of a folder.

    Args:
        folder: A LeRobot data set (``meta/info.json``); or mp4 and npz files, an episode each, in it and below. A
            behaviour is the sub-folder's name, or what ``metadata.jsonl`` says (``file_name`` with ``behaviour`` or
            ``label``, ``success``, ``seed``), else 'given'. 'expert', 'random' and the other known names are ranked.
            npz files hold ``frames``, and may hold ``actions``, ``rewards``, ``success``, ``behaviour``, ``seed``.
        camera: Of a LeRobot data set; '' is its first.
        limit: Only so many from the start; 0 is all.
        size: Side in pixels to which frames are cut and resized; 0 leaves them as they are.

    Raises:
        UserError: No such folder, nothing in it, more than fits in memory, or files that cannot be used, each by name.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError(f"There is no folder '{folder}'; name one with episodes as mp4 or npz, or a LeRobot data set.")
    if (folder / "meta" / "info.json").is_file():
        sources, bad = _from_lerobot(folder, camera, limit, size)
    elif camera:
        raise UserError(f"The camera '{camera}' is for LeRobot data sets; '{folder}' is a plain folder.")
    else:
        sources, bad = _from_files(folder, limit, size)
    trajectories, held = [], 0
    for number, source in enumerate(sources):
        try:
            trajectories.append(_trajectory(source, number, size))
        except BadVideo as error:
            bad.append(f"{source.name}: {error}")
            continue
        held += trajectories[-1].frames.nbytes
        if held > MOST:
            raise UserError(
                f"The episodes in '{folder}' are more than {MOST / 2**30:.0f} GB of frames from {source.name} on; "
                "give fewer, shorter or smaller ones."
            )
    _complain(folder, trajectories, bad)
    return trajectories


def _complain(folder: Path, good: list[Trajectory], bad: list[str]) -> None:
    if bad:
        more = [f"and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
        listed = "\n  ".join(bad[:SHOWN] + more)
        several = "episodes" if len(bad) > 1 else "episode"
        raise UserError(
            f"{len(bad)} {several} of {len(good) + len(bad)} in '{folder}' cannot be used; mend or remove:\n  {listed}"
        )
    if not good:
        raise UserError(f"'{folder}' holds no episodes: no mp4 or npz files and no meta/info.json (LeRobot).")


def _from_lerobot(folder: Path, camera: str, limit: int, size: int) -> tuple[list[_Source], list[str]]:
    episodes, bad = lerobot.find(folder, camera, limit, captions=False)
    return [_Source(e.name, e.notes, partial(_lerobot_arrays, e, size)) for e in episodes], bad


def _from_files(folder: Path, limit: int, size: int) -> tuple[list[_Source], list[str]]:
    notes, bad = _metadata(folder)
    files = [p for p in folder.rglob("*") if p.suffix.lower() in (".mp4", ".npz") and not p.name.startswith(".")]
    files.sort(key=lambda p: (natural_key(p.relative_to(folder).parent.as_posix()), natural_key(p.name)))
    sources = []
    for path in files[:limit] if limit else files:
        name = path.relative_to(folder).as_posix()
        said = notes.pop(name, {})
        where = {"behaviour": path.parent.name} if path.parent != folder and not _label(said) else {}
        read = partial(_npz_arrays, path) if path.suffix.lower() == ".npz" else partial(_movie_arrays, path, size)
        sources.append(_Source(name, {**where, **said}, read))
    if not limit:
        bad += [f"{METADATA}: names {name}, which is not there" for name in notes]
    return sources, bad


def _metadata(folder: Path) -> tuple[dict[str, dict], list[str]]:
    """What ``metadata.jsonl`` says of each file, and what is wrong with its lines."""
    path = folder / METADATA
    if not path.is_file():
        return {}, []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' cannot be read ({error}); it must be UTF-8 text.") from error
    rows, bad = {}, []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line) if line.strip() else None
        except json.JSONDecodeError as error:
            bad.append(f"{METADATA} line {number}: is no JSON ({error.msg})")
            continue
        if row is not None and not (isinstance(row, dict) and isinstance(row.get("file_name"), str)):
            bad.append(f"{METADATA} line {number}: has no file_name")
        elif row is not None:
            rows[Path(row["file_name"]).as_posix()] = row
    return rows, bad


def _movie_arrays(path: Path, size: int) -> dict[str, np.ndarray]:
    return {"frames": _frames(Episode(path.name, path, ""), size)}


def _lerobot_arrays(episode: Episode, size: int) -> dict[str, np.ndarray]:
    """LeRobot's row t has what follows from its action: reward and success move on by a row.

    Those of the last row have no frame; a success there is the episode's, a reward is left out.
    """
    arrays = {"frames": _frames(episode, size)}
    there = lerobot.steps(episode, ("action", "next.reward", "next.success"))
    rows = len(arrays["frames"])
    for name, column in there.items():
        if len(column) != rows:
            raise BadVideo(f"has {rows} frames but {len(column)} rows of {name}")
        if column.dtype == object:
            raise BadVideo(f"has rows without a {name}")
    if "action" in there:
        actions = np.asarray(there["action"], np.float32).reshape(rows, -1)
        arrays["actions"] = np.concatenate([actions[:-1], np.zeros_like(actions[:1])])
    if "next.reward" in there:
        arrays["rewards"] = np.concatenate([[0.0], there["next.reward"].reshape(-1)[:-1]])
    if "next.success" in there:
        said = there["next.success"].reshape(-1).astype(bool)
        arrays["success"] = np.concatenate([[False], said[:-1]])
        arrays["success"][-1] |= said[-1]
    return arrays


def _frames(episode: Episode, size: int) -> np.ndarray:
    seen = clips.look(episode.path)
    sides = (size, size) if size else (seen.height, seen.width)
    count = clips.length(episode)
    if count * sides[0] * sides[1] * 3 > MOST:
        raise BadVideo(f"has {count} frames of {sides[1]}x{sides[0]}, more than can be held")
    return clips.read(episode, np.arange(count), sides)


def _npz_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        # NumPy's own sentence on whatever is neither npz nor npy advises to load it as a pickle.
        why = "it is no npz file, or holds Python objects" if "pickle" in str(error) else str(error)
        raise BadVideo(f"cannot be read ({why}); it needs {ARRAYS}") from error
    except Exception as error:  # zipfile and zlib have errors of their own
        raise BadVideo(f"cannot be read ({error}); is it a whole npz file?") from error


def _trajectory(source: _Source, number: int, size: int) -> Trajectory:
    """The arrays of one source, checked and filled up to a row a frame."""
    arrays = source.read()
    frames = arrays.get("frames")
    if frames is None:
        raise BadVideo(f"holds no 'frames' but {', '.join(arrays) or 'nothing'}; it needs {ARRAYS}")
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or len(frames) < 2:
        raise BadVideo(
            f"has frames of {frames.dtype} {frames.shape}; they must be uint8 (T + 1, H, W, 3), T at least 1"
        )
    if min(frames.shape[1:3]) < clips.SMALLEST:
        raise BadVideo(f"is {frames.shape[2]}x{frames.shape[1]}; both sides must be {clips.SMALLEST} pixels or more")
    if size:
        frames = np.stack([clips.fitted(frame, (size, size)) for frame in frames])
    rows = len(frames)
    behaviour = _label(source.notes) or _label(arrays) or "given"
    return Trajectory(
        task="",
        behaviour=behaviour,
        seed=_number(source.notes.get("seed", arrays.get("seed", number))),
        frames=frames,
        actions=_column(arrays, "actions", rows, end=True),
        rewards=_rewards(arrays, rows),
        success=_success(source.notes.get("success", arrays.get("success")), behaviour, rows),
    )


def _label(notes: Mapping[str, Any]) -> str:
    found = [str(notes[key]).strip() for key in LABELS if notes.get(key) is not None]
    return found[0] if found else ""


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise BadVideo(f"has the seed {value!r}, which is no whole number") from None


def _column(arrays: Mapping[str, np.ndarray], name: str, rows: int, end: bool) -> np.ndarray:
    """float32 (rows, D): a column of T + 1 rows as it is, one of T with a row of zeros at its end or beginning."""
    if name not in arrays:
        return np.zeros((rows, 1), np.float32)
    try:
        column = np.asarray(arrays[name], np.float32)
        column = column.reshape(len(column), -1)
    except (TypeError, ValueError):
        raise BadVideo(f"has {name} that are no numbers") from None
    if len(column) not in (rows, rows - 1):
        raise BadVideo(f"has {rows} frames but {len(column)} {name}; there must be {rows - 1} or {rows}")
    if not np.isfinite(column).all():
        raise BadVideo(f"has {name} that are not finite")
    if len(column) < rows:
        zeros = np.zeros_like(column[:1])
        column = np.concatenate([column, zeros] if end else [zeros, column])
    return column


def _rewards(arrays: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
    column = _column(arrays, "rewards", rows, end=False)
    if column.shape[1] != 1:
        raise BadVideo(f"has rewards of shape {np.shape(arrays['rewards'])}; they must be one number a step")
    column[0] = 0  # the reset earns nothing
    return column[:, 0]


def _success(said: Any, behaviour: str, rows: int) -> np.ndarray:
    """bool (rows,), from a flag for the whole episode, a column, or a label that says so."""
    success = np.zeros(rows, bool)
    if said is None:
        success[-1] = behaviour.lower() in GOOD
        return success
    said = np.asarray(said)
    if said.dtype.kind not in "biuf" or said.size not in (1, rows, rows - 1):
        raise BadVideo(f"has a success of {said.dtype} {said.shape}; it must be true or false, or one for each step")
    said = said.reshape(-1) > 0
    success[-len(said) :] = said
    return success
