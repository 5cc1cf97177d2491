"""Checkpoints without pickle: arrays in safetensors, the rest as JSON; people share run directories.

Every write goes to a folder beside, is flushed to the disk and renamed into place: a process killed at any moment
leaves the old checkpoint or the new one, never half of one.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from genreward_jax.errors import UserError

ARRAYS, REST = "agent.safetensors", "agent.json"


def save_agent(agent: Any, folder: str | os.PathLike) -> None:
    """Writes parameters, optimiser states and counters of an agent (``agent.save()``) into ``folder``.

    An existing folder keeps its other files; ``agent.json`` is written last and names the size of what belongs to it.
    """
    data = agent.save()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {key: np.asarray(value, order="C") for key, value in data["params"].items()}
    _replace(folder / ARRAYS, lambda path: save_file(arrays, path))
    rest = {"counters": data["counters"], "arrays": len(arrays), "bytes": (folder / ARRAYS).stat().st_size}
    _replace(folder / REST, lambda path: path.write_text(json.dumps(rest)))


def load_agent(agent: Any, folder: str | os.PathLike) -> None:
    """Puts back what :func:`save_agent` wrote.

    Raises:
        UserError: Files are missing or damaged, or belong to an agent of another shape.
    """
    folder = Path(folder)
    for name in (ARRAYS, REST):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is no checkpoint: it has no {name}; start again in another LOGDIR.")
    try:
        rest = json.loads((folder / REST).read_text())
        if rest["bytes"] != (folder / ARRAYS).stat().st_size:
            raise ValueError("the two files are from different moments")
        params, counters = load_file(folder / ARRAYS), {key: int(rest["counters"][key]) for key in COUNTERS}
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"The checkpoint {folder} is damaged ({error}); start again in another LOGDIR.") from error
    check_shapes(params, agent.params, folder)
    agent.load({"params": params, "counters": counters})


def drop_parameters(folder: str | os.PathLike, prefixes: tuple[str, ...]) -> None:
    """Takes parameters whose names begin so out of what :func:`save_agent` wrote."""
    folder = Path(folder)
    arrays = {key: value for key, value in load_file(folder / ARRAYS).items() if not key.startswith(prefixes)}
    rest = json.loads((folder / REST).read_text())
    _replace(folder / ARRAYS, lambda path: save_file(arrays, path))
    rest |= {"arrays": len(arrays), "bytes": (folder / ARRAYS).stat().st_size}
    _replace(folder / REST, lambda path: path.write_text(json.dumps(rest)))


COUNTERS = ("updates", "batches", "actions")


def check_shapes(found: Mapping[str, np.ndarray], wanted: Mapping[str, Any], folder: Path) -> None:
    """Refuses arrays that are not those of the agent.

    Raises:
        UserError: Names the first parameter that is missing, unknown, or of another shape or type.
    """
    describe = lambda x: f"{x.dtype} {tuple(x.shape)}"
    for key in sorted({*found, *wanted}):
        here = describe(found[key]) if key in found else "absent"
        there = describe(wanted[key]) if key in wanted else "absent"
        if here != there:
            raise UserError(
                f"The checkpoint {folder} is of another agent: {key} is {here} in it and {there} in this one; "
                "use the same preset, method and flags, or another LOGDIR."
            )


def _replace(path: Path, write: Any) -> None:
    """Lets ``write(temporary)`` make a file, flushes it to the disk, and renames it to ``path``."""
    temporary = path.with_name(f".{path.name}.tmp")
    write(temporary)
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


class Checkpoint:
    """What upstream's run scripts keep their state in (``elements.Checkpoint``), without pickle.

    Objects are assigned as attributes and have ``save()`` and ``load(data)``; their data may hold dicts, lists,
    numbers, strings, booleans, None and NumPy arrays.
    """

    def __init__(self, directory: Any = None, **ignored: Any) -> None:
        # Upstream names a pickle here; ours is a folder without that ending.
        self.__dict__["_directory"] = None if directory is None else Path(str(directory).removesuffix(".pkl"))
        self.__dict__["_objects"] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        self._objects[name] = value

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_objects"][name]
        except KeyError:
            raise AttributeError(name) from None

    def exists(self) -> bool:
        return (self._directory / "state.json").is_file()

    def load_or_save(self) -> None:
        self.load() if self.exists() else self.save()

    def save(self) -> None:
        arrays: dict[str, np.ndarray] = {}
        rest = {name: _split(item.save(), name, arrays) for name, item in self._objects.items()}
        target, temporary = self._directory, self._directory.with_name(f".{self._directory.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        _replace(temporary / "state.safetensors", lambda path: save_file(arrays, path))
        _replace(temporary / "state.json", lambda path: path.write_text(json.dumps(rest)))
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            os.replace(target, old)
        os.replace(temporary, target)
        shutil.rmtree(old, ignore_errors=True)

    def load(self, path: Any = None, keys: Any = None) -> None:
        folder = self._directory if path is None else Path(str(path))
        try:
            rest = json.loads((folder / "state.json").read_text())
            arrays = load_file(folder / "state.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(f"{folder} is no readable checkpoint ({error}); use another LOGDIR.") from error
        for name in self._objects if keys is None else keys:
            self._objects[name].load(_join(rest[name], arrays))


_ARRAY = "__array__"


def _split(data: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """The JSON form of ``data``; its arrays go to ``arrays`` under their path and leave a marker behind."""
    if isinstance(data, Mapping):
        return {str(key): _split(value, f"{path}/{key}", arrays) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_split(value, f"{path}/{i}", arrays) for i, value in enumerate(data)]
    if isinstance(data, (np.ndarray, np.generic)):
        arrays[path] = np.asarray(data, order="C")
        return {_ARRAY: path}
    if data is None or isinstance(data, (bool, int, float, str)):
        return data
    raise TypeError(f"{path}: a checkpoint holds no {type(data).__name__}")


def _join(data: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(data, dict) and _ARRAY in data:
        return arrays[data[_ARRAY]]
    if isinstance(data, dict):
        return {key: _join(value, arrays) for key, value in data.items()}
    return [_join(value, arrays) for value in data] if isinstance(data, list) else data
