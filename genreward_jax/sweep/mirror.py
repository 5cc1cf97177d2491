"""A run's local folder kept equal to its place behind an fsspec URL, so that a run can go on on another machine.

The place holds a whole run at any moment: what a checkpoint refers to goes up before it, the pointer that makes it
count after it, and what is no longer needed goes last.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from genreward_jax.sweep.storage import open_url

POINTER = "checkpoint/latest"
LOCAL = ("run.lock",)  # of this machine alone


class Mirror:
    """One run's folder and its place.

    Args:
        folder: Local; need not be there.
        url: Its place.
        may: Asked before each file that goes up: False means that the run is another's by now, and nothing is written.
    """

    def __init__(self, folder: Path, url: str, may: Callable[[], bool] = lambda: True) -> None:
        self.folder, self.may = Path(folder), may
        self.fs, self.root = open_url(url)
        self.known: dict[str, tuple[int, int]] = {}  # what lies there: name to size and time of the local file

    def down(self) -> None:
        """Makes the local folder what lies there, which is what counts."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.known = {}
        for name in self._there():
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            self.fs.get_file(f"{self.root}/{name}", str(target))
            self.known[name] = _stamp(target)

    def up(self) -> None:
        """Brings what has changed up; a training may go on meanwhile. :meth:`down` comes first.

        Raises:
            OSError: The store refuses; the next call tries again.
        """
        if not self.folder.is_dir():
            return
        with tempfile.TemporaryDirectory(prefix=".mirror-", dir=self.folder.parent) as still:
            names = self._still(Path(still))
            for name in sorted(names, key=_order):
                stamp = names[name]
                if self.known.get(name) == stamp:
                    continue
                if not self.may():
                    return
                target = f"{self.root}/{name}"
                self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
                self.fs.put_file(str(Path(still) / name), target)
                self.known[name] = stamp
            for name in self.known.keys() - names.keys():
                if not self.may():
                    return
                with suppress(FileNotFoundError):
                    self.fs.rm_file(f"{self.root}/{name}")
                del self.known[name]

    def pointer(self) -> str:
        """The name of the local checkpoint that counts, '' for none."""
        return _text(self.folder / POINTER)

    def keep(self, file: Path, url: str) -> None:
        """Puts a single file beside the run, if it is there."""
        target = self.fs._strip_protocol(url)
        if file.exists() and self.may():
            self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            self.fs.put_file(str(file), target)

    def _there(self) -> list[str]:
        """Names of all files in the place."""
        try:
            found = self.fs.find(self.root)
        except FileNotFoundError:
            return []
        return sorted(path.removeprefix(f"{self.root}/") for path in found)

    def _still(self, still: Path) -> dict[str, tuple[int, int]]:
        """Links to all files of one moment, in which no checkpoint was replaced; names to size and time."""
        while True:
            before, names = self.pointer(), {}
            for file in _files(self.folder):
                name = file.relative_to(self.folder).as_posix()
                target = still / name
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    _link(file, target)
                except FileNotFoundError:
                    continue  # removed since it was listed
                names[name] = _stamp(target)
            if self.pointer() == before:
                return names
            shutil.rmtree(still)
            still.mkdir()


def _order(name: str) -> tuple[int, str]:
    """What a checkpoint refers to, the checkpoint, its pointer, and the logs of what came after."""
    if name == POINTER:
        return 2, name
    if name.startswith("checkpoint/"):
        return 1, name
    return (3 if name.endswith(".jsonl") else 0), name


def _files(folder: Path) -> list[Path]:
    """All whole files below a folder in which others write; what begins with a dot is half-written."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".") and name not in LOCAL]
    return found


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links
        shutil.copy2(file, target)


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
