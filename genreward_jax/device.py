"""Which hardware there is, told without starting JAX, whose flags must be set before it starts."""

import functools
import importlib.util
import os
import shutil
import subprocess

import elements

from genreward_jax.cache import cache_dir


@functools.cache
def has_gpu() -> bool:
    """Whether an NVIDIA GPU answers and JAX's CUDA plugin for it is installed."""
    plugin = any(importlib.util.find_spec(name) for name in ("jax_cuda12_plugin", "jax_cuda13_plugin"))
    program = shutil.which("nvidia-smi")
    if not plugin or not program:
        return False
    try:
        found = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found.returncode == 0 and "GPU" in found.stdout


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_jax(config: elements.Config, bridge: bool) -> elements.Config:
    """Settles the platform and what must be in the environment before JAX starts; gives the settled configuration.

    Compiled programs are kept in the user's cache folder, so that a second start is short. On a GPU the child that
    holds the reward's models is left its share of the memory.
    """
    platform = config.jax.platform
    if platform == "auto":
        platform = "cuda" if has_gpu() else "cpu"
    if platform == "cuda" and bridge:
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.95 - config.bridge.memory_share:.2f}")
    import jax

    jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(cache_dir("jax")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    settled = {"jax.platform": platform}
    if platform == "cpu":
        settled["jax.compute_dtype"] = "float32"  # half precision is slower there, and nothing is won
    return config.update(settled)
