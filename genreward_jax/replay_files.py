"""A replay as it lies on the disk: upstream's npz chunks, named time-id-successor-rows, in order of filling."""

from pathlib import Path

import numpy as np


def chunk_id(file: Path) -> str:
    """The id by which rows and successors name a chunk."""
    return file.stem.split("-")[1]


def chains(files: list[Path]) -> list[list[Path]]:
    """The files in the order in which each environment filled them, oldest chain first.

    A run that was stopped and went on has a chain more for each environment; where a replay is full, a chain's first
    chunks are gone.
    """
    named = {chunk_id(file): file for file in sorted(files)}
    successor = {key: file.stem.split("-")[2] for key, file in named.items()}
    followers = set(successor.values())
    found = []
    for key in named:
        if key in followers:
            continue
        chain = []
        while key in named:
            chain.append(named[key])
            key = successor[key]
        found.append(chain)
    return found


def read(file: Path) -> dict[str, np.ndarray]:
    """A chunk's columns, (rows, ...) each."""
    with np.load(file, allow_pickle=False) as data:
        return {key: data[key] for key in data.files}


def write(file: Path, columns: dict[str, np.ndarray]) -> None:
    """A chunk as upstream writes it."""
    with file.open("wb") as stream:
        np.savez_compressed(stream, **columns)
