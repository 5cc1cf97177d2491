"""pi_z of equation (7): an actor over states and z, and the noise that its targets are smoothed with."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from genreward_jax.fb.networks import Embed


class Actor(nn.Module):
    """The action that pi_z takes in s. Inputs float32 (..., state), (..., d); output float32 (..., action) in [-1, 1].

    The same shape as F's: s and (s, z) are embedded separately.
    """

    actions: int
    hidden: int = 512

    @nn.compact
    def __call__(self, state: jax.Array, z: jax.Array) -> jax.Array:
        half = max(1, self.hidden // 2)
        alone = Embed(self.hidden, half)(state)
        with_z = Embed(self.hidden, half)(jnp.concatenate([state, z], -1))
        x = nn.relu(nn.Dense(self.hidden)(jnp.concatenate([alone, with_z], -1)))
        return nn.tanh(nn.Dense(self.actions)(x))


def noisy(action: jax.Array, key: jax.Array, spread: float = 0.2, most: float = 0.3) -> jax.Array:
    """Adds normal noise of that spread, cut at ``most``, and cuts the result to [-1, 1].

    As TD3 smooths its targets (Fujimoto et al. 2018) and FB its policy: F is then asked about actions around pi_z's,
    and a sharp peak of F's error pays nothing.
    """
    noise = jnp.clip(spread * jax.random.normal(key, action.shape, action.dtype), -most, most)
    return jnp.clip(action + noise, -1, 1)
