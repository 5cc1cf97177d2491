"""Data of fine-tuning: a folder of videos with ``metadata.jsonl``, or a LeRobot data set, as a list of episodes.

No torch here. What is wrong with single videos is gathered and told at once, each by its name.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from genreward_jax.datasets import clips, lerobot
from genreward_jax.datasets.clips import BadVideo, Episode
from genreward_jax.errors import UserError

METADATA = "metadata.jsonl"
CAPTIONS = ("text", "caption", "prompt")  # columns that may hold the caption, the first that is there
SHOWN = 20  # bad videos that are listed in full


def find(folder: Path, camera: str = "", limit: int = 0) -> tuple[list[Episode], list[str]]:
    """Episodes of a data folder in its own order, not opened yet.

    Args:
        folder: Holds ``metadata.jsonl`` (the Hugging Face video-folder convention), or ``meta/info.json`` (LeRobot).
        camera: Which video of a LeRobot data set; '' is the first.
        limit: Only so many from the start; 0 is all.

    Returns:
        The episodes, and a line for each entry that is none ('name: what is wrong').

    Raises:
        UserError: No such folder, or neither form.
    """
    if not folder.is_dir():
        raise UserError(f"There is no data folder '{folder}'; name one with {METADATA} or a LeRobot data set.")
    if (folder / METADATA).is_file():
        if camera:
            raise UserError(f"--camera {camera} is for LeRobot data sets; '{folder}' is a plain folder of videos.")
        return _rows(folder, limit)
    if (folder / "meta" / "info.json").is_file():
        return lerobot.find(folder, camera, limit)
    inner = sorted(path.parent for path in folder.glob(f"*/{METADATA}"))
    hint = f"; is it '{inner[0]}' that you mean?" if inner else "."
    raise UserError(
        f"'{folder}' holds neither {METADATA} (a line a video: file_name and text) nor meta/info.json (a LeRobot data "
        f"set){hint}"
    )


def _rows(folder: Path, limit: int) -> tuple[list[Episode], list[str]]:
    episodes, bad = [], []
    try:
        lines = (folder / METADATA).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"'{folder / METADATA}' cannot be read ({error}); it must be UTF-8 text.") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if limit and len(episodes) + len(bad) == limit:
            break
        try:
            episodes.append(_episode(folder, json.loads(line)))
        except json.JSONDecodeError as error:
            bad.append(f"{METADATA} line {number}: is no JSON ({error.msg})")
        except BadVideo as error:
            bad.append(f"{METADATA} line {number}: {error}")
    return episodes, bad


def _episode(folder: Path, row: object) -> Episode:
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str) or not row["file_name"].strip():
        raise BadVideo("has no file_name")
    name = row["file_name"]
    path = clips.inside(folder, name)
    column = next((key for key in CAPTIONS if key in row), "text")
    text = row.get(column)
    if not isinstance(text, str) or not text.strip():
        raise BadVideo(f"{name} has no caption ({column})")
    return Episode(name, path, text.strip())


def check(
    episodes: list[Episode], sizes: str = "same", bar: Callable[[list], Iterator] = iter
) -> tuple[list[Episode], list[str]]:
    """Opens every file once: the episodes that can be used, and a line for each that cannot.

    Args:
        episodes: What :func:`find` gave.
        sizes: 'same': a video of another size than most is bad, as it often is another camera; 'any': it is taken.
        bar: Wraps the list in a progress bar.
    """
    good, bad, shapes = [], [], []
    for episode in bar(episodes):
        try:
            frames, seen = clips.length(episode), clips.look(episode.path)
            if frames < 2:
                raise BadVideo(f"has {frames} frame{'' if frames == 1 else 's'}; a video needs 2 or more")
            if min(seen.height, seen.width) < clips.SMALLEST:
                raise BadVideo(f"is {seen.width}x{seen.height}; both sides must be {clips.SMALLEST} pixels or more")
        except BadVideo as error:
            bad.append(f"{episode.name}: {error}")
            continue
        good.append(episode)
        shapes.append((seen.width, seen.height))
    if sizes == "any" or not good:
        return good, bad
    usual = Counter(shapes).most_common(1)[0][0]
    for episode, shape in zip(good, shapes, strict=True):
        if shape != usual:
            bad.append(f"{episode.name}: is {shape[0]}x{shape[1]}, but most are {usual[0]}x{usual[1]} (--sizes any)")
    return [e for e, shape in zip(good, shapes, strict=True) if shape == usual], bad


def complain(folder: Path, good: int, bad: list[str], skip: bool) -> str:
    """The list of bad videos, for the log.

    Raises:
        UserError: There are bad ones and they are not to be skipped, or no good one is left.
    """
    if not bad and good:
        return ""
    more = [f"  and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
    listed = "\n".join([f"  {line}" for line in bad[:SHOWN]] + more)
    if not good:
        raise UserError(f"No usable video in '{folder}'" + (f":\n{listed}" if bad else ": its list is empty."))
    several = "videos" if len(bad) > 1 else "video"
    if skip:
        return f"Left out {len(bad)} bad {several} of {good + len(bad)}:\n{listed}"
    raise UserError(
        f"{len(bad)} bad {several} of {good + len(bad)} in '{folder}' (mend them, or leave them out with --bad skip):\n"
        f"{listed}"
    )


def bar_for(name: str, shown: bool) -> Callable[[list], Iterator]:
    """A progress bar around a list, for those that take a while; silent in all processes but the first."""
    from tqdm import tqdm

    return lambda items: tqdm(items, desc=name, disable=not shown, delay=1, mininterval=1 if os.isatty(2) else 30)
