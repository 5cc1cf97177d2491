"""What the machine can do at best, to set beside what was measured: products a second, bytes a second."""

import time
from dataclasses import dataclass

import numpy as np

from genreward_jax.bench.figures import Figure

SECONDS_IN = {"s": 1.0, "ms": 1e3}


@dataclass(frozen=True)
class Best:
    """The machine's best speeds: floating point operations and bytes a second."""

    products: float
    copying: float

    @classmethod
    def measured(cls, dtype: str = "float32") -> "Best":
        return cls(products(dtype), copying())

    def seconds(self, flops: float, moved: float) -> float:
        """The time below which that many operations and bytes cannot be had: the longer of both."""
        return max(flops / self.products, moved / self.copying)

    def figure(self, name: str, flops: float, moved: float, unit: str = "ms") -> Figure:
        """A line of a table: the floor, and what it is made of."""
        by, of = flops / self.products, moved / self.copying
        note = f"{flops / 1e9:.3g} GFLOP in {1e3 * by:.3g} ms, {moved / 1e6:.3g} MB in {1e3 * of:.3g} ms"
        return Figure(f"{name}: floor", unit, [SECONDS_IN[unit] * self.seconds(flops, moved)], note)


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


def copying_seconds(moved: float) -> float:
    """Seconds in which a copy moves that many bytes."""
    return moved / copying()
