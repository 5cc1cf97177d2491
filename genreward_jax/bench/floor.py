"""What the machine can do at best, to set beside what was measured: products a second, bytes a second."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from genreward_jax.bench.figures import Figure

SECONDS_IN = {"s": 1.0, "ms": 1e3}


SIDE = {"cpu": 2048, "gpu": 8192}  # of the square matrices
MEGABYTES = {"cpu": 256, "gpu": 2048}  # of what is copied
QUICK_PRODUCT, QUICK_COPY = {"side": 512, "repeats": 2}, {"megabytes": 16, "repeats": 2}  # for a smoke

NOTE = (
    "a floor is the longer of two: the operations of matrix products and convolutions at the speed of one large matrix "
    "product, and the arguments and results, each byte once, at the speed of a copy (caches can be quicker)"
)


@dataclass(frozen=True)
class Best:
    """A device's best speeds: floating point operations a second, bytes a second that a copy reads and writes."""

    products: float
    copying: float

    @classmethod
    def measured(cls, dtype: str = "float32", quick: bool = False) -> "Best":
        """Both of JAX's default device."""
        product, copy = (QUICK_PRODUCT, QUICK_COPY) if quick else ({}, {})
        return cls(products(dtype, **product), copying(**copy) if backend() == "cpu" else copying_on_device(**copy))

    def seconds(self, flops: float, moved: float) -> float:
        """The time below which that many operations and bytes cannot be had: the longer of both."""
        return max(flops / self.products, moved / self.copying)

    def figure(self, name: str, flops: float, moved: float, unit: str = "ms") -> Figure:
        """A line of a table: the floor, and what it is made of.

        Args:
            name: Of what is done.
            flops: Operations that it needs.
            moved: Bytes that must be read or written, each once.
            unit: 's' or 'ms'.
        """
        by, of = flops / self.products, moved / self.copying
        note = (
            f"{flops / 1e9:.3g} GFLOP in {1e3 * by:.3g} ms, {moved / 1e6:.3g} MB, each byte once, in {1e3 * of:.3g} ms"
        )
        return Figure(f"{name}: floor", unit, [SECONDS_IN[unit] * self.seconds(flops, moved)], note)


def backend() -> str:
    """Where JAX's default device is: cpu, or gpu for all others."""
    import jax

    return "cpu" if jax.default_backend() == "cpu" else "gpu"


def products(dtype: str, side: int = 0, repeats: int = 8) -> float:
    """Floating point operations a second of one large matrix product on JAX's default device, the best of some."""
    import jax

    side = side or SIDE[backend()]
    values = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    return 2 * side**3 / _best(jax.jit(lambda a: a @ a), values, dtype, repeats)


def copying_on_device(megabytes: int = 0, repeats: int = 5) -> float:
    """Bytes a second that a copy in the memory of JAX's default device reads and writes, the best of some."""
    import jax

    values = np.ones((megabytes or MEGABYTES["gpu"]) << 20, np.uint8)
    return 2 * values.nbytes / _best(jax.jit(lambda a: a + 1), values, "uint8", repeats)


def _best(program: Any, values: np.ndarray, dtype: str, repeats: int) -> float:
    """Seconds of the quickest of some calls of a compiled program."""
    import jax
    import jax.numpy as jnp

    with jax.transfer_guard("allow"):
        argument, times = jnp.asarray(values, dtype), []
        program(argument).block_until_ready()
        for _ in range(repeats):
            begun = time.perf_counter()
            program(argument).block_until_ready()
            times.append(time.perf_counter() - begun)
    return min(times)


def copying(megabytes: int = 0, repeats: int = 5) -> float:
    """Bytes a second that a copy in main memory reads and writes, the best of some."""
    source = np.ones((megabytes or MEGABYTES["cpu"]) << 20, np.uint8)
    target, times = np.zeros_like(source), []
    for _ in range(repeats):
        begun = time.perf_counter()
        np.copyto(target, source)
        times.append(time.perf_counter() - begun)
    return 2 * source.nbytes / min(times)
