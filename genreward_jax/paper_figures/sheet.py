"""The sheet that a figure is drawn on: title above, caption below, and its files."""

import csv
import io
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genreward_jax.errors import UserError
from genreward_jax.figures import style
from genreward_jax.rundir import write_text


@contextmanager
def into(folder: Path) -> Iterator[None]:
    """Makes a folder before the work whose files go into it; takes it away again where none was written.

    Raises:
        UserError: It cannot be made, or a file cannot be written to it or read on the way.
    """
    there = folder.is_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BrokenPipeError:  # of the reader of what is printed
        raise
    except OSError as error:
        what = f"{error.filename or folder} cannot be read or written ({error.strerror or error})"
        raise UserError(f"{what}: mend that, or name another folder by OUT=.") from None
    finally:
        if not there and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def new(width: float, height: float, title: str, notes: Sequence[str]) -> tuple[Any, Any]:
    """A picture and the part of it that is free for the figure.

    Args:
        width, height: Of that part, in inches.
        title: Above it.
        notes: Sentences below it, a paragraph each.
    """
    lines = [part for note in notes for part in textwrap.wrap(note, int(14.5 * width))]
    foot = 0.2 + 0.17 * len(lines)
    picture = style.new_figure(width, height + foot)
    above, below = picture.subfigures(2, 1, height_ratios=(height, foot))
    picture.suptitle(title, fontsize=14, color=style.INK, x=0.01, ha="left")
    text = "\n".join(lines)
    below.text(0.01, 0.97, text, fontsize=9.5, color=style.QUIET, ha="left", va="top", linespacing=1.25)
    return picture, above


def save(picture: Any, stem: Path) -> list[Path]:
    """The picture as PNG and PDF."""
    files = beside(stem, ".png", ".pdf")
    for file in files:
        style.save(picture, file)
    return files


def beside(stem: Path, *endings: str) -> list[Path]:
    """Paths of files of a figure."""
    return [stem.with_name(f"{stem.name}{ending}") for ending in endings]


def write(stem: Path, ending: str, text: str) -> Path:
    """A text file beside a picture, named after it."""
    (file,) = beside(stem, ending)
    write_text(file, text)
    return file


def write_csv(stem: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]], ending: str = ".csv") -> Path:
    """The numbers behind a picture."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return write(stem, ending, text.getvalue())


def write_notes(stem: Path, notes: Sequence[str]) -> Path:
    """The caption as text."""
    return write(stem, ".txt", "\n".join(notes) + "\n")


def picture_on(axes: Any, frame: Any, title: str = "", colour: str = style.FAINT, width: float = 0.8) -> None:
    """A frame without ticks, in a border."""
    axes.imshow(frame, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    if title:
        axes.set_title(title, fontsize=10, color=style.INK)
    for spine in axes.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(width)
