"""How long a run took to get going: seconds from the start of its process to each first thing, kept in startup.json."""

import time
from pathlib import Path

import psutil

from genreward_jax.rundir import write_json

LAST = "train_step"  # the last of the marks; with it the file is written


class Startup:
    """Marks, each set once: ``agent``, ``evaluation``, ``step``, ``filled``, ``train_step`` and what comes before.

    Args:
        folder: The run directory.
    """

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / "startup.json"
        self.began = psutil.Process().create_time()  # seconds since 1970, as those of whoever started the process
        self.seconds: dict[str, float] = {}

    def mark(self, name: str) -> None:
        """Notes that this happened now, if it is the first time."""
        if name in self.seconds or LAST in self.seconds:
            return
        self.seconds[name] = round(time.time() - self.began, 3)
        if name == LAST:
            self.write()

    def write(self) -> None:
        """Writes what there is: ``began`` in seconds since 1970, ``seconds`` from then to each mark."""
        write_json(self.path, {"began": self.began, "seconds": self.seconds})
