"""Embeddings made fit for a small network while they still come in: :mod:`genreward_jax.fb.standard` for training."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

SLOWEST = 0.001  # share that a batch has in the running figures once a thousand were seen


class RunningStandard(NamedTuple):
    """Running mean of embeddings and the one scale that gives what is left a mean square of 1.

    Frames of one scene differ little, and that little is what counts.

    Attributes:
        mean: (n,).
        variance: About the mean, averaged over the n numbers, ().
        batches: How many were taken in, ().
    """

    mean: jax.Array
    variance: jax.Array
    batches: jax.Array

    @classmethod
    def start(cls, size: int) -> "RunningStandard":
        zero = jnp.zeros((), jnp.float32)
        return cls(jnp.zeros((size,), jnp.float32), zero, zero)

    def update(self, rows: jax.Array, weight: jax.Array) -> "RunningStandard":
        """Takes in the rows (N, n) whose ``weight`` (N,) is 1: all alike at first, the latest a thousandth later."""
        count = weight.sum()
        some = (count > 0).astype(jnp.float32)
        rate = some * jnp.maximum(1 / (self.batches + 1), SLOWEST)
        average = lambda x: (x * weight.reshape((-1,) + (1,) * (x.ndim - 1))).sum(0) / jnp.maximum(count, 1.0)
        mean = (1 - rate) * self.mean + rate * average(rows)
        before = self.variance + jnp.square(self.mean - mean).mean()  # of all earlier rows, about the new mean
        now = average(jnp.square(rows - mean).mean(-1))
        return RunningStandard(mean, (1 - rate) * before + rate * now, self.batches + some)

    def __call__(self, embeddings: jax.Array) -> jax.Array:
        """float32 (..., n) to (..., n)."""
        return (embeddings - self.mean) / jnp.sqrt(jnp.maximum(self.variance, 1e-12))
