"""Where runs are kept: a plain folder that every node sees, or any fsspec URL (s3://, gs://, file://, ...)."""

import json
from pathlib import Path
from typing import Any

from genreward_jax.errors import UserError


def is_url(where: str | Path) -> bool:
    """Whether this names a store behind fsspec, and no folder."""
    return "://" in str(where)


def join(where: str | Path, name: str) -> str:
    """A name below a folder or URL."""
    return f"{str(where).rstrip('/')}/{name}" if is_url(where) else str(Path(where) / name)


def open_url(url: str) -> tuple[Any, str]:
    """The fsspec file system behind a URL, and the path in it.

    Raises:
        UserError: No such kind of store, or the package for it is not installed.
    """
    try:
        from fsspec.core import url_to_fs

        filesystem, path = url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"The store {url} cannot be opened ({error}); install its package, as pip install s3fs."
        ) from None
    return filesystem, path.rstrip("/")


class Store:
    """A run's directory for reading, wherever it is.

    Args:
        where: A folder or an fsspec URL; it need not be there.
    """

    def __init__(self, where: str | Path) -> None:
        self.where = str(where)
        self._fs, self._root = open_url(self.where) if is_url(where) else (None, self.where)

    def read(self, name: str) -> str | None:
        """A file's text, None if it is not there.

        Raises:
            UserError: The store refuses, as for want of the right to read.
        """
        try:
            if self._fs is None:
                return (Path(self._root) / name).read_text()
            return self._fs.cat_file(f"{self._root}/{name}").decode()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except UserError:
            raise
        except Exception as error:  # of many kinds, each store has its own: no credentials, no such bucket
            raise UserError(f"{join(self.where, name)} cannot be read ({error}).") from None

    def step(self) -> int:
        """The step of the checkpoint that counts; 0 for none."""
        text = (self.read("checkpoint/latest") or "").strip()
        return int(text) if text.isdigit() else 0

    def scores(self) -> list[dict[str, float]]:
        """Lines of scores.jsonl; one that a kill cut off is left out."""
        rows = []
        for line in (self.read("scores.jsonl") or "").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return rows
