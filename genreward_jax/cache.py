"""Where made-once things live (models, goals, rendered experts), and how they get there whole."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_dir(*parts: str) -> Path:
    """The cache folder, or a path inside it: $GENREWARD_CACHE, else $XDG_CACHE_HOME/genreward_jax, else ~/.cache.

    Nothing is created here.
    """
    own, xdg = os.environ.get("GENREWARD_CACHE"), os.environ.get("XDG_CACHE_HOME")
    root = Path(own) if own else Path(xdg) / "genreward_jax" if xdg else Path.home() / ".cache" / "genreward_jax"
    return root.expanduser().absolute().joinpath(*parts)


def make_once(target: str | os.PathLike, fill: Callable[[Path], None]) -> Path:
    """Returns the folder ``target``, filled by ``fill(folder)`` if it was not there.

    The folder appears under its name complete or not at all: it is filled beside it and renamed. When several
    processes race, the first rename wins and the others throw their copy away, so ``fill`` must give equal content.
    """
    target = Path(target)
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        made.chmod(0o755)  # mkdtemp's own 0700 would shut other users out of a shared cache
        fill(made)
        # Renaming onto a folder that is not empty fails: then another process was first.
        with contextlib.suppress(OSError):
            made.rename(target)
        if not target.is_dir():
            raise OSError(f"could not put {target} in place")
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return target
