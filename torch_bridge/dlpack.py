"""From the bridge's shared memory into JAX: the same memory on a CPU, one copy onto a GPU."""

from typing import Any

import numpy as np

from torch_bridge.shared import ALIGNMENT


def to_jax(array: np.ndarray, device: Any = None) -> Any:
    """A jax array of ``array``, by default on JAX's own default device.

    On a CPU nothing is copied: the jax array has the array's address and keeps it alive, so ``array`` must not be
    written any more (the bridge never does). Memory that XLA cannot take over (not 64-byte aligned, or of gaps) is
    copied, as it is for a GPU.
    """
    import jax

    device = device or jax.devices()[0]
    aligned = array.ctypes.data % ALIGNMENT == 0 and array.flags.c_contiguous and array.flags.writeable
    if device.platform == "cpu" and aligned and array.size:
        return jax.device_put(jax.dlpack.from_dlpack(array), device)
    return jax.device_put(array, device)
