"""Where a figure comes from: the code's commit and the machine, in words."""

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from genreward_jax.device import cores, has_gpu
from genreward_jax.machine import output_of
from genreward_jax.rundir import write_json

ROOT = Path(__file__).resolve().parent.parent


def commit() -> str:
    """Short hash of the checkout's commit, '+' behind it where files differ from it; '' outside a checkout."""
    try:
        asked = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=7", "--exclude=*", "--dirty=+"]
        return subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def machine() -> str:
    """Processor cores, architecture, system and Python."""
    return f"{cores()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"


def versions() -> dict[str, str]:
    """Versions of the libraries whose speed shows in ours; '' for one that is not installed."""
    names = ("jax", "jaxlib", "dreamer", "numpy", "torch", "diffusers", "open_clip_torch", "metaworld", "mujoco")
    found = {dist.metadata["Name"].lower().replace("-", "_"): dist.version for dist in metadata.distributions()}
    return {name: found.get(name, "") for name in names}


def keep(folder: Path) -> None:
    """Writes a run's ``provenance.json``: what each of its starts ran on, oldest first; equal ones once."""
    file = Path(folder) / "provenance.json"
    now = {"commit": commit(), "machine": machine(), "gpu": gpu()}
    starts = read(folder)
    if now not in starts:
        write_json(file, [*starts, now])


def read(folder: Path) -> list[dict[str, str]]:
    """What :func:`keep` wrote, and nothing where a run is older than that or the file is damaged."""
    file = Path(folder) / "provenance.json"
    try:
        starts = json.loads(file.read_text())
    except (OSError, ValueError):
        return []
    return [start for start in starts if isinstance(start, dict)] if isinstance(starts, list) else []


def gpu() -> str:
    """Names of the NVIDIA GPUs that are seen; '' where there is none."""
    if not has_gpu():
        return ""
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    names = output_of(asked).split("\n")
    return ", ".join(name.strip() for name in names if name.strip())


def sentence() -> str:
    """Both, in one line."""
    return f"commit {commit() or 'unknown'}, {machine()}"
