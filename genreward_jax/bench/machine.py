"""What a benchmark was measured on, in words and numbers for bench.json."""

import platform
from pathlib import Path
from typing import Any

import psutil

from genreward_jax import provenance


def describe() -> dict[str, Any]:
    """``machine`` (cores, system, Python), ``cpu`` and ``gpu`` by name ('' for none), ``memory`` in bytes."""
    return {
        "machine": provenance.machine(),
        "cpu": _cpu(),
        "gpu": provenance.gpu(),
        "memory": psutil.virtual_memory().total,
    }


def _cpu() -> str:
    """Name of the processor's model, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
