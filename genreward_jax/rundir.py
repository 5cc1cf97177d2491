"""The run directory: where it is, that one process owns it, and that it holds the run that is meant."""

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import IO, Any

import elements

from genreward_jax.config import differences, read_yaml
from genreward_jax.errors import UserError
from genreward_jax.suites import file_name, split_task

# What may change when a run is continued; everything else must stay as it was.
MAY_CHANGE = (
    "logdir", "logger", "eval", "bridge", "patches", "preset",
    "jax.platform", "jax.compute_dtype", "jax.prealloc", "jax.profiler", "jax.precompile",
    "jax.compilation_cache", "jax.debug",
    "run.steps", "run.log_every", "run.report_every", "run.save_every", "run.progress", "run.plots", "run.usage",
    "run.debug", "script", "run.actor_batch",
    "goal.source", "goal.image", "goal.offload",  # the goal itself is told by its content
)  # fmt: skip


def default_logdir(config: elements.Config) -> str:
    """``runs/<task>/<env_reward>/<method>/seed<k>``."""
    suite, task = split_task(config.task)
    return f"runs/{file_name(task)}/{config.env[suite].reward}/{config.method}/seed{config.seed}"


class RunDirectory:
    """A run's folder, locked by this process from :meth:`open` to :meth:`close`.

    The lock is the kernel's (flock), so it goes with the process however that ends.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._lock: IO[str] | None = None
        self._new = False

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    def saved_config(self) -> elements.Config | None:
        """The configuration that the run was started with, or None for a new folder."""
        if not self.config_file.exists():
            return None
        try:
            return elements.Config.load(str(self.config_file))
        except Exception as error:
            said = " ".join(str(error).split())
            raise UserError(
                f"{self.config_file} is damaged ({said}): restore it, or name another run or LOGDIR."
            ) from None

    def open(self, config: elements.Config) -> bool:
        """Locks the folder and checks that it holds this run or none; gives whether a run is continued.

        Raises:
            UserError: another process uses it, it holds another run (the differences are listed), or something else.
        """
        saved = self.saved_config()
        if saved is not None:
            self._check_same(saved, config)
        elif self.path.exists() and not self.path.is_dir():
            raise UserError(f"LOGDIR {self.path} is a file; name a folder.")
        elif self.path.exists() and any(x.name not in ("run.lock", "bridge.log") for x in self.path.iterdir()):
            raise UserError(f"{self.path} holds files but no run (no config.yaml); choose another LOGDIR.")
        self._new = saved is None
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / "run.lock", "a+")
        except OSError as error:
            raise UserError(f"The run directory {self.path} cannot be written ({error.strerror}).") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.seek(0)
            owner = self._lock.read().strip() or "unknown"
            self._lock.close()
            self._lock = None
            raise UserError(
                f"{self.path} is in use by process {owner}; wait for it, stop it, or choose another LOGDIR."
            ) from None
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()
        return saved is not None

    def _check_same(self, saved: elements.Config, config: elements.Config) -> None:
        lines = differences(saved.flat, config.flat, ignore=MAY_CHANGE)
        if lines:
            raise UserError(
                f"{self.path} holds a run with other settings; choose another LOGDIR, or continue it with its own:\n  "
                + "\n  ".join(lines)
            )

    def check_goal(self, digest: str, config: elements.Config) -> None:
        """Refuses to continue with another goal than the run's, told by its content."""
        file = self.path / "goal" / "goal.json"
        saved = json.loads(file.read_text()).get("digest") if file.exists() else None
        if saved and saved != digest:
            raise UserError(
                f"{self.path} was trained for another goal (video, words or models: content {saved[:12]}) than "
                f"'{config.goal.source}' now gives ({digest[:12]}); choose another LOGDIR, or give the same goal."
            )

    def keep_config(self, config: elements.Config) -> None:
        """Writes config.yaml, so that from here on the folder is a run."""
        write_text(self.config_file, _yaml(config))

    def discard(self) -> None:
        """Takes away what was written for a run that could not start; a run that was there before stays.

        The bridge's log stays too where it says something, since an error names it.
        """
        if not self._new:
            return
        for item in self.path.iterdir():
            if item.name == "bridge.log" and item.stat().st_size:
                continue
            shutil.rmtree(item) if item.is_dir() else item.unlink()
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def close(self) -> None:
        if self._lock:
            self._lock.close()
            self._lock = None


def run_config(run: str) -> elements.Config:
    """The configuration that a run was started with, flags that are younger than it at their defaults.

    Raises:
        UserError: There is no run.
    """
    saved = RunDirectory(run).saved_config()
    if saved is None:
        raise UserError(f"There is no run in '{run}' (no config.yaml); give a folder that make train wrote.")
    defaults = elements.Config(read_yaml("defaults"))
    return defaults.update({key: value for key, value in saved.flat.items() if key in defaults.flat})


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def _yaml(config: elements.Config) -> str:
    import io

    from ruamel.yaml import YAML

    stream = io.StringIO()
    YAML(typ="safe").dump({k: v for k, v in dict(config).items()}, stream)
    return stream.getvalue()
