"""Checkpoints without pickle: the agent in safetensors, counters in JSON, and the list of the replay's chunks.

``checkpoint/<step>/`` folders, written beside and renamed into place; ``checkpoint/latest`` names the one that
counts. A process killed at any moment leaves the checkpoint before it whole.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from genreward_jax.errors import UserError
from genreward_jax.replay_files import chunk_id
from genreward_jax.rundir import write_text


class Checkpoint:
    """Saves and restores agent, replay, shaper and counters of a run.

    Args:
        folder: ``<run>/checkpoint``.
        save_agent: ``save_agent(folder)`` writes the agent's files there.
        load_agent: ``load_agent(folder)`` reads them.
        replay: Has ``save()``, ``load()`` and ``directory`` (npz chunks); None to leave it out.
        shaper: Has ``state()`` and ``load(state)``; None to leave it out.
        counters: Names to objects with ``save()`` and ``load(value)`` of JSON values.
    """

    def __init__(self, folder: Path, save_agent, load_agent, replay=None, shaper=None, counters=None) -> None:
        self.folder = Path(folder)
        self.save_agent, self.load_agent = save_agent, load_agent
        self.replay, self.shaper, self.counters = replay, shaper, counters or {}

    def latest(self) -> Path | None:
        """Folder of the checkpoint that counts, or None."""
        pointer = self.folder / "latest"
        if not pointer.exists():
            return None
        found = self.folder / pointer.read_text().strip()
        if not (found / "state.json").exists():
            raise UserError(f"The checkpoint {found} that {pointer} names is not there; choose another LOGDIR.")
        return found

    @staticmethod
    def step_of(found: Path) -> int:
        """The step at which a checkpoint was written."""
        return int(found.name)

    def save(self, step: int) -> Path:
        """Writes a checkpoint of this step and makes it the one that counts; older ones are removed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{step:012d}"
        before = self.latest()
        target, temporary = self.folder / name, self.folder / f".{name}.tmp"
        if before == target:  # nothing was trained since
            return target
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        state: dict[str, Any] = {"step": step, "counters": {k: v.save() for k, v in self.counters.items()}}
        if self.replay is not None:
            self.replay.save()
            state["replay"] = sorted(chunk.filename for chunk in self.replay.chunks.values() if chunk.length)
        if self.shaper is not None:
            save_file({k: np.asarray(v) for k, v in self.shaper.state().items()}, temporary / "shaper.safetensors")
        self.save_agent(temporary)
        (temporary / "state.json").write_text(json.dumps(state))
        shutil.rmtree(target, ignore_errors=True)  # left by a process killed before it moved the pointer
        os.replace(temporary, target)
        write_text(self.folder / "latest", name)
        for other in self.folder.iterdir():  # older checkpoints, and what killed processes left behind
            if other.is_dir() and other != target:
                shutil.rmtree(other, ignore_errors=True)
        self._drop_chunks(state)
        return target

    def load(self) -> int | None:
        """Restores everything from the latest checkpoint; gives its step, or None if there is none.

        Chunks of the replay that came after it (a process killed between the two writes) are removed first, so that
        replay and agent belong together.
        """
        found = self.latest()
        if found is None:
            return None
        try:
            state = json.loads((found / "state.json").read_text())
        except ValueError as error:
            raise UserError(f"{found / 'state.json'} is damaged ({error}); choose another LOGDIR.") from None
        self.load_agent(found)
        if self.replay is not None:
            self._drop_chunks(state)
            self.replay.load()
        if self.shaper is not None:
            self.shaper.load(load_file(found / "shaper.safetensors"))
        for name, counter in self.counters.items():
            if name in state["counters"]:
                counter.load(state["counters"][name])
        return int(state["step"])

    def _drop_chunks(self, state: dict[str, Any]) -> None:
        """Removes chunks that the checkpoint does not name: too old for the replay's capacity, or newer than it."""
        if self.replay is None:
            return
        known = set(state["replay"])
        for file in Path(str(self.replay.directory)).glob("*.npz"):
            if file.name not in known:
                file.unlink()
        if getattr(self.replay, "frames", None) is not None:
            self.replay.frames.keep_only(chunk_id(Path(name)) for name in known)
