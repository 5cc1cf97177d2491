"""The forward-backward representation as a ninjax module: lives in the agent's parameters, trains in its train step."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import embodied.jax
import jax
import jax.numpy as jnp
import ninjax as nj
import numpy as np
import optax

from genreward_jax.fb import losses, networks

Arrays = Mapping[str, jax.Array]
f32 = jnp.float32


class SlowCopy:
    """A module whose parameters follow those of another: value <- rate * source + (1 - rate) * value."""

    def __init__(self, module: nj.Module, source: nj.Module, rate: float) -> None:
        self.module, self.source, self.rate = module, source, rate

    def __call__(self, *args: Any) -> Any:
        if not self.module.values:  # at creation: start as the source, which has been called by then
            path = self.module.path
            nj.context().update({f"{path}/{key}": value for key, value in self.source.values.items()})
        return self.module(*args)

    def update(self) -> None:
        slow = self.module.values
        for key, value in self.source.values.items():
            self.module.write(key, self.rate * value + (1 - self.rate) * slow[key])


class ForwardBackward(nj.Module):
    """Two forward heads, the backward map, their slow copies, the map of encoder tokens to states.

    State variables beside the networks: the goal psi, and whether training is over (``frozen``), so that one compiled
    program serves every goal, and freezing compiles nothing.
    """

    def __init__(self, act_space: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self.act_space = act_space
        self.config = config
        make = dict(dim=int(config["dim"]), hidden=int(config["hidden"]))
        forward = nj.FromFlax(partial(networks.Forward, **make))
        backward = nj.FromFlax(partial(networks.Backward, **make))
        slow = partial(SlowCopy, rate=float(config["target_rate"]))
        self.map = nj.FromFlax(networks.StateMap)(name="map")
        self.heads = [forward(name=f"forward{i}") for i in range(2)]
        self.backward = backward(name="backward")
        self.slow_heads = [slow(forward(name=f"slow_forward{i}"), source=x) for i, x in enumerate(self.heads)]
        self.slow_backward = slow(backward(name="slow_backward"), source=self.backward)
        self.goal = nj.Variable(jnp.zeros, (networks.STATE_DIM,), f32, name="goal")
        self.frozen = nj.Variable(jnp.zeros, (), bool, name="frozen")
        trained = [*self.heads, self.backward, *([self.map] if config["map"] == "trained" else [])]
        self.opt = embodied.jax.Optimizer(trained, optax.adam(float(config["lr"])), name="opt")

    def train(self, make_batch: Callable[[], Arrays]) -> dict[str, jax.Array]:
        """One update on the pairs of neighbouring rows of a replay batch; nothing at all once frozen.

        Args:
            make_batch: Called where the update is computed; gives ``tokens`` float32 (B, T, tokens), ``action``
                float32 (B, T, action): the action taken at each row, ``next_action`` float32 (B, T - 1, action),
                ``is_first`` and ``is_terminal`` bool (B, T).

        Returns:
            Metrics; ``trained`` says whether there was an update, without one the others are 0.
        """
        update = lambda: self._update(self._transitions(make_batch()))
        names = (*losses.metric_names(self.config["objective"]), "grad_norm", "trained")
        idle = lambda: {name: jnp.zeros((), f32) for name in names}
        return nj.cond(~self.frozen.read(), update, idle)

    def _transitions(self, batch: Arrays) -> dict[str, jax.Array]:
        """Flattens the rows to N = B * (T - 1) transitions; those across a reset get weight 0."""
        flat = lambda x: x.reshape((-1, *x.shape[2:]))
        discount = self.config["discount"] * (1 - f32(batch["is_terminal"][:, 1:]))
        return {
            "tokens": flat(batch["tokens"][:, :-1]),
            "next_tokens": flat(batch["tokens"][:, 1:]),
            "action": flat(batch["action"][:, :-1]),
            "next_action": flat(batch["next_action"]),
            "discount": flat(discount),
            "weight": flat(f32(~batch["is_first"][:, 1:])),
        }

    def _update(self, transitions: Arrays) -> dict[str, jax.Array]:
        count = len(transitions["weight"])
        z = networks.to_sphere(jax.random.normal(nj.seed(), (count, int(self.config["dim"])), f32))
        metrics, terms = self.opt(self._loss, transitions, z, has_aux=True)
        [model.update() for model in (*self.slow_heads, self.slow_backward)]
        extra = {"grad_norm": metrics["opt/grad_norm"], "trained": jnp.ones((), f32)}
        return {**terms, **extra}

    def _loss(self, transitions: Arrays, z: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        state, following = self.map(transitions["tokens"]), self.map(transitions["next_tokens"])  # (N, 384)
        fixed = jax.lax.stop_gradient(following)
        goal = self.goal.read()
        reps = losses.Representations(
            forward=[head(state, transitions["action"], z) for head in self.heads],
            target_forward=[head(fixed, transitions["next_action"], z) for head in self.slow_heads],
            backward_goal=self.backward(goal),
            target_backward_goal=self.slow_backward(goal),
            backward_next=self.backward(following),
            target_backward_next=self.slow_backward(fixed),
            discount=transitions["discount"],
            weight=transitions["weight"],
        )
        return losses.objective(self.config["objective"])(reps, float(self.config["ortho"]))

    def reward(self, tokens: jax.Array, action: jax.Array) -> jax.Array:
        """r_FB of equation (9), the smaller of the two heads.

        Args:
            tokens: The encoder's tokens of the current observations, (B, tokens).
            action: The actions chosen on them, as :meth:`flat_action` gives them, (B, action).

        Returns:
            float32 (B,).
        """
        goal = self.goal.read()
        backward = self.backward(goal)  # (d,)
        z = networks.reward_z(goal, backward, self.config["z"])
        z = jnp.broadcast_to(z, (len(tokens), *z.shape))
        state = self.map(f32(tokens))
        return losses.product([head(state, action, z) for head in self.heads], backward)

    def flat_action(self, actions: Arrays) -> jax.Array:
        """All actions of a space as one float32 vector: classes as one-hot, numbers cut to [-1, 1]."""
        parts = []
        for key, space in sorted(self.act_space.items()):
            x = actions[key]
            if space.discrete:
                x = jax.nn.one_hot(x, int(np.max(space.classes)), dtype=f32)
            x = jnp.clip(f32(x), -1, 1)
            lead = actions[key].ndim - len(space.shape)
            parts.append(x.reshape((*x.shape[:lead], -1)))
        return jnp.concatenate(parts, -1)
