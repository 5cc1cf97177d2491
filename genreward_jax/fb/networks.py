"""The forward and backward maps of section 3.3 in Flax: small networks on states of 384 numbers."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

STATE_DIM = 384  # Table A's "observation dimension": a DINOv3 ViT-S embedding, or mapped encoder tokens.


class StateMap(nn.Module):
    """The shared linear map of encoder tokens to :data:`STATE_DIM` numbers.

    Input float32 (..., tokens), output float32 (..., 384). The initial scale keeps the spread of its input.
    """

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        return nn.Dense(STATE_DIM)(tokens)


class Embed(nn.Module):
    """Two layers with the first one normalised, so that states, actions and z may come at any scale."""

    hidden: int
    out: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.tanh(nn.LayerNorm()(nn.Dense(self.hidden)(x)))
        return nn.relu(nn.Dense(self.out)(x))


class Forward(nn.Module):
    """F(s, a, z): (s, a) and (s, z) are embedded separately, then one hidden layer and a linear one.

    Inputs float32 (..., 384), (..., action), (..., d); output float32 (..., d). Two of these with weights of their
    own are the two heads.
    """

    dim: int = 512
    hidden: int = 512

    @nn.compact
    def __call__(self, state: jax.Array, action: jax.Array, z: jax.Array) -> jax.Array:
        half = max(1, self.hidden // 2)
        with_action = Embed(self.hidden, half)(jnp.concatenate([state, action], -1))
        with_z = Embed(self.hidden, half)(jnp.concatenate([state, z], -1))
        x = nn.relu(nn.Dense(self.hidden)(jnp.concatenate([with_action, with_z], -1)))
        return nn.Dense(self.dim)(x)


class Backward(nn.Module):
    """B(s), normalised to length sqrt(d). Input float32 (..., 384), output float32 (..., d)."""

    dim: int = 512
    hidden: int = 512

    @nn.compact
    def __call__(self, state: jax.Array) -> jax.Array:
        x = Embed(self.hidden, self.hidden)(state)
        return to_sphere(nn.Dense(self.dim)(x))


def to_sphere(x: jax.Array) -> jax.Array:
    """Scales the last axis, of size d, to length sqrt(d); zero stays zero."""
    length = jnp.sqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12))
    return x * (np.sqrt(x.shape[-1]) / length)


def backward_of(backward: Callable[[jax.Array], jax.Array], goal: jax.Array) -> jax.Array:
    """B of a goal, float32 (d,): of one state (n,), or the mean of B over several (G, n), at length sqrt(d) again.

    To be in any of several states alike is a reward whose z is the mean of their B (Touati & Ollivier 2021).
    """
    found = backward(goal)
    return found if found.ndim == 1 else to_sphere(found.mean(0))


def reward_z(goal: jax.Array, backward_goal: jax.Array, kind: str) -> jax.Array:
    """z of equation (9) for a goal: B(psi) itself, which has length sqrt(d), or psi as printed, padded with zeros.

    Args:
        goal: psi, float32 (384,).
        backward_goal: B(psi), float32 (d,).
        kind: 'backward' or 'psi' (needs d of at least 384).
    """
    if kind == "backward":
        return backward_goal
    return jnp.pad(goal, (0, backward_goal.shape[-1] - goal.shape[-1]))
