"""Which hardware there is, told without starting JAX, whose flags must be set before it starts."""

import functools
import importlib.util
import shutil
import subprocess


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
