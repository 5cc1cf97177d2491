"""What the machine can do at best, to set beside what was measured: products a second, bytes a second."""

import time

import numpy as np

SIDE = {"cpu": 2048, "gpu": 8192}  # of the square matrices


def products(dtype: str, repeats: int = 8) -> float:
    """Floating point operations a second of one large matrix product on JAX's own default device, the best of some."""
    import jax
    import jax.numpy as jnp

    side = SIDE["cpu" if jax.default_backend() == "cpu" else "gpu"]
    key = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    with jax.transfer_guard("allow"):
        a = jnp.asarray(key, dtype)
        product = jax.jit(lambda a: a @ a)
        product(a).block_until_ready()
        times = []
        for _ in range(repeats):
            begun = time.perf_counter()
            product(a).block_until_ready()
            times.append(time.perf_counter() - begun)
    return 2 * side**3 / min(times)


def copying(megabytes: int = 256, repeats: int = 5) -> float:
    """Bytes a second that a copy in main memory reads and writes, the best of some."""
    source = np.ones(megabytes << 20, np.uint8)
    target, times = np.zeros_like(source), []
    for _ in range(repeats):
        begun = time.perf_counter()
        np.copyto(target, source)
        times.append(time.perf_counter() - begun)
    return 2 * source.nbytes / min(times)
