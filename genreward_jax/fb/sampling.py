"""What FB is trained with beside transitions: the z of each, and the scale of the reward it gives."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from genreward_jax.fb.networks import to_sphere


def sample_z(key: jax.Array, backward: jax.Array, mix: float) -> jax.Array:
    """One z a transition, of length sqrt(d): a share of them B of another of the batch's states, the others Gaussian.

    A Gaussian z alone is nearly orthogonal to every B(s), so that F would hardly be trained where eq. (9) reads it.

    Args:
        key: Of the draw.
        backward: B(s') of the batch, (N, d); no gradient goes through it.
        mix: Share of z that are some B(s'), 0 to 1.

    Returns:
        float32 (N, d).
    """
    count = len(backward)
    gaussian, which, order = jax.random.split(key, 3)
    z = to_sphere(jax.random.normal(gaussian, backward.shape, jnp.float32))
    if mix <= 0:
        return z
    states = to_sphere(jax.lax.stop_gradient(backward))[jax.random.permutation(order, count)]
    return jnp.where(jax.random.uniform(which, (count, 1)) < mix, states, z)


class Scale(NamedTuple):
    """Running mean and mean square of r_FB; ``seen`` corrects for the start at 0. Scalars, all 0 at the start."""

    mean: jax.Array
    square: jax.Array
    seen: jax.Array

    @classmethod
    def start(cls) -> "Scale":
        return cls(*[jnp.zeros((), jnp.float32)] * 3)

    def update(self, rewards: jax.Array, weight: jax.Array, rate: float = 0.01) -> "Scale":
        """Takes in a batch's rewards (N,), of which those of ``weight`` 1 count."""
        count = jnp.maximum(weight.sum(), 1.0)
        rate = rate * (weight.sum() > 0)
        new = ((rewards * weight).sum() / count, (jnp.square(rewards) * weight).sum() / count, 1.0)
        return Scale(*[(1 - rate) * old + rate * x for old, x in zip(self, new, strict=True)])

    def figures(self) -> tuple[jax.Array, jax.Array]:
        """Mean and spread of what was seen, scalars."""
        seen = jnp.maximum(self.seen, 1e-8)
        mean = self.mean / seen
        variance = self.square / seen - jnp.square(mean)
        # A reward that is the same everywhere stays near 0 instead of becoming its own rounding error.
        return mean, jnp.sqrt(jnp.maximum(variance, 1e-6 * jnp.square(mean) + 1e-12))

    def normalise(self, rewards: jax.Array) -> jax.Array:
        """(r - mean) / spread of what was seen; 0 where nothing was."""
        mean, spread = self.figures()
        return jnp.where(self.seen > 0, (rewards - mean) / spread, 0.0)
