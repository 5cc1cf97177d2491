"""Carrying a sweep out on Ray."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from genreward_jax.sweep.plan import Job


def run_jobs(
    jobs: list[Job],
    out: str | Path,
    *,
    resources: Mapping[str, Any] = {},  # noqa: B006 (never changed)
    retries: int = 2,
    at_once: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, str]:
    """Trains every job that is not finished, each in a process of its own, on Ray."""
    raise NotImplementedError("being written: helper R, next commit")
