"""Where a figure comes from: the code's commit and the machine, in words."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

from genreward_jax.device import cores

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


def sentence() -> str:
    """Both, in one line."""
    return f"commit {commit() or 'unknown'}, {machine()}"
