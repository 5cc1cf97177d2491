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

from genreward_jax import frame_states
from genreward_jax.fb import losses, networks, sampling
from genreward_jax.fb.actor import Actor, noisy
from genreward_jax.fb.running import RunningStandard

Arrays = Mapping[str, jax.Array]
f32 = jnp.float32
fixed = jax.lax.stop_gradient

# What the policy call needs of it, by name: parameters and state.
AT_POLICY = "map|map_deter|forward0|forward1|backward|goal|frozen|dino_\\w+|scale_\\w+"


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


class Running:
    """A NamedTuple of running figures as state variables, ``<name>_<field>`` each, so that checkpoints hold them."""

    def __init__(self, start: Callable[[], Any], name: str) -> None:
        start = jax.eval_shape(start)  # all zeros: only the shapes are wanted, and nothing may be put on the device
        make = lambda key, value: nj.Variable(jnp.zeros, value.shape, f32, name=f"{name}_{key}")
        self.kind = type(start)
        self.variables = {key: make(key, value) for key, value in start._asdict().items()}

    def read(self) -> Any:
        return self.kind(**{key: variable.read() for key, variable in self.variables.items()})

    def write(self, value: Any) -> None:
        [variable.write(getattr(value, key)) for key, variable in self.variables.items()]


class ForwardBackward(nj.Module):
    """Two forward heads, the backward map, their slow copies, what turns inputs into states; by flag pi_z.

    What F and B are given is told by name: ``tokens`` of the encoder and ``deter``, the world model's deterministic
    state, each through a linear map; ``dino``, embeddings of the frame, less their running mean, at one scale.

    State variables beside the networks: the goal, and whether training is over (``frozen``), so that one compiled
    program serves every goal; running figures.
    """

    def __init__(self, act_space: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self.act_space = act_space
        self.config = config
        self.inputs = dict.fromkeys((config["forward_state"], config["backward_state"]))  # in order, once each
        make = dict(dim=int(config["dim"]), hidden=int(config["hidden"]))
        forward = nj.FromFlax(partial(networks.Forward, **make))
        backward = nj.FromFlax(partial(networks.Backward, **make))
        slow = partial(SlowCopy, rate=float(config["target_rate"]))
        names = {"tokens": "map", "deter": "map_deter"}
        self.maps = {x: nj.FromFlax(networks.StateMap)(name=names[x]) for x in self.inputs if x in names}
        self.heads = [forward(name=f"forward{i}") for i in range(2)]
        self.backward = backward(name="backward")
        self.slow_heads = [slow(forward(name=f"slow_forward{i}"), source=x) for i, x in enumerate(self.heads)]
        self.slow_backward = slow(backward(name="slow_backward"), source=self.backward)
        size = frame_states.numbers(config)
        frames = {"key": 1, "end": frame_states.GOAL_FRAMES}[config["goal"]]
        goal = (frames, size) if config["backward_state"] == "dino" else (networks.STATE_DIM,)
        self.goal = nj.Variable(jnp.zeros, goal, f32, name="goal")
        self.frozen = nj.Variable(jnp.zeros, (), bool, name="frozen")
        maps = list(self.maps.values()) if config["map"] == "trained" else []
        adam = optax.adam(float(config["lr"]))
        self.opt = embodied.jax.Optimizer([*self.heads, self.backward, *maps], adam, name="opt")
        self.standard = Running(partial(RunningStandard.start, size), "dino") if "dino" in self.inputs else None
        self.scale = Running(sampling.Scale.start, "scale") if config["reward_norm"] == "running" else None
        self.actor = None
        if config["next_action"] == "actor":
            actor = nj.FromFlax(partial(Actor, actions=self._action_size(), hidden=int(config["hidden"])))
            self.actor = actor(name="actor")
            self.slow_actor = slow(actor(name="slow_actor"), source=self.actor)
            self.actor_opt = embodied.jax.Optimizer([self.actor], adam, name="actor_opt")

    def train(self, make_batch: Callable[[], Arrays]) -> dict[str, jax.Array]:
        """One update on the pairs of neighbouring rows of a replay batch; nothing at all once frozen.

        Args:
            make_batch: Called where the update is computed; gives each of :attr:`inputs` as float32 (B, T, numbers),
                with ``dino`` also ``dino_valid`` bool (B, T); ``action`` float32 (B, T, action): the action taken at
                each row, ``next_action`` float32 (B, T - 1, action), ``is_first`` and ``is_terminal`` bool (B, T).

        Returns:
            Metrics; ``trained`` says whether there was an update, without one the others are 0.
        """
        update = lambda: self._update(self._transitions(make_batch()))
        names = (*losses.metric_names(self.config["objective"]), "grad_norm", "trained")
        names += ("actor",) if self.actor else ()
        names += ("reward_mean", "reward_spread") if self.scale else ()
        idle = lambda: {name: jnp.zeros((), f32) for name in names}
        return nj.cond(~self.frozen.read(), update, idle)

    def _transitions(self, batch: Arrays) -> dict[str, jax.Array]:
        """Flattens the rows to N = B * (T - 1) transitions; those that do not count get weight 0.

        They do not across a reset, nor without the embeddings they need. Where only some rows are embedded, N is as
        many transitions as can count, and those are taken first.
        """
        flat = lambda x: x.reshape((-1, *x.shape[2:]))
        discount = self.config["discount"] * (1 - f32(batch["is_terminal"][:, 1:]))
        rows, steps = discount.shape
        counts = ~batch["is_first"][:, 1:]
        if self.standard:
            counts &= batch["dino_valid"][:, 1:]
            if self.config["forward_state"] == "dino":
                counts &= batch["dino_valid"][:, :-1]
        transitions = {
            **{name: flat(batch[name][:, :-1]) for name in self.inputs},
            **{f"next_{name}": flat(batch[name][:, 1:]) for name in self.inputs},
            "action": flat(batch["action"][:, :-1]),
            "next_action": flat(batch["next_action"]),
            "discount": flat(discount),
            "weight": flat(f32(counts)),
            "group": jnp.repeat(jnp.arange(rows), steps),
        }
        most = rows * -(-steps // max(1, int(self.config["dino_every"]))) if self.standard else rows * steps
        if most == rows * steps:
            return transitions
        chance = jax.random.uniform(nj.seed(), (rows * steps,))  # no stretch before another, should there be too many
        chosen = jnp.argsort(-transitions["weight"] - 0.5 * chance)[:most]
        return {name: value[chosen] for name, value in transitions.items()}

    def _update(self, transitions: Arrays) -> dict[str, jax.Array]:
        if self.standard:
            rows, weight = transitions["next_dino"], transitions["weight"]
            self.standard.write(self.standard.read().update(rows, weight))
        z = self._draw_z(transitions)
        if self.actor:
            transitions = {**transitions, "next_action": self._next_action(transitions, z)}
        metrics, terms = self.opt(self._loss, transitions, z, has_aux=True)
        [model.update() for model in (*self.slow_heads, self.slow_backward)]
        extra = {"grad_norm": metrics["opt/grad_norm"], "trained": jnp.ones((), f32)}
        if self.actor:
            extra |= self.actor_opt(self._actor_loss, transitions, z, has_aux=True)[1]
            self.slow_actor.update()
        if self.scale:
            extra |= self._follow_reward(transitions)
        return {**terms, **extra}

    def _draw_z(self, transitions: Arrays) -> jax.Array:
        """One z a transition (N, d): Gaussian ones, and by ``z_mix`` some that are B of replay states."""
        count, mix = len(transitions["weight"]), float(self.config["z_mix"])
        if mix <= 0:
            return networks.to_sphere(jax.random.normal(nj.seed(), (count, int(self.config["dim"])), f32))
        backward = self.backward(self._state("backward_state", transitions, "next_"))
        likely = transitions["weight"] + 1e-6  # a row without an embedding is no state
        rows = jax.random.choice(nj.seed(), count, (count,), p=likely / likely.sum())
        return sampling.sample_z(nj.seed(), backward[rows], mix)

    def _next_action(self, transitions: Arrays, z: jax.Array) -> jax.Array:
        """What pi_z would do next, by its slow copy, with the noise that smooths the target; (N, action)."""
        following = self._state("forward_state", transitions, "next_")
        if nj.creating():
            self.actor(following, z)
        return fixed(self._noisy(self.slow_actor(following, z)))

    def _noisy(self, action: jax.Array) -> jax.Array:
        spread = float(self.config["actor_noise"])
        return noisy(action, nj.seed(), spread, 1.5 * spread)

    def _state(self, which: str, inputs: Arrays, prefix: str = "") -> jax.Array:
        """What F or B (``which``: forward_state or backward_state) sees: float32 (..., 384), or an embedding's size."""
        name = self.config[which]
        value = inputs[prefix + name]
        return self.standard.read()(value) if name == "dino" else self.maps[name](value)

    def _goal(self) -> jax.Array:
        """The goal as B sees it, float32 (384,), or of embeddings (G, numbers)."""
        goal = self.goal.read()
        return self.standard.read()(goal) if self.config["backward_state"] == "dino" else goal

    def _loss(self, transitions: Arrays, z: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        state = self._state("forward_state", transitions)  # (N, 384)
        following = self._state("backward_state", transitions, "next_")  # (N, 384)
        same = self.config["forward_state"] == self.config["backward_state"]
        ahead = fixed(following if same else self._state("forward_state", transitions, "next_"))
        goal = self._goal()
        reps = losses.Representations(
            forward=[head(state, transitions["action"], z) for head in self.heads],
            target_forward=[head(ahead, transitions["next_action"], z) for head in self.slow_heads],
            backward_goal=networks.backward_of(self.backward, goal),
            target_backward_goal=networks.backward_of(self.slow_backward, goal),
            backward_next=self.backward(following),
            target_backward_next=self.slow_backward(fixed(following)),
            discount=transitions["discount"],
            weight=transitions["weight"],
            group=transitions["group"],
        )
        pessimism = bool(self.config["pessimism"])
        return losses.objective(self.config["objective"])(reps, float(self.config["ortho"]), pessimism)

    def _actor_loss(self, transitions: Arrays, z: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        state = fixed(self._state("forward_state", transitions))
        action = self._noisy(self.actor(state, z))
        forward = [head(state, action, z) for head in self.heads]
        return losses.actor(forward, z, transitions["weight"], bool(self.config["pessimism"]))

    def _follow_reward(self, transitions: Arrays) -> dict[str, jax.Array]:
        """Takes the batch's own rewards towards the goal into the running figures."""
        rewards = self._product(self._state("forward_state", transitions), transitions["action"])
        scale = self.scale.read().update(rewards, transitions["weight"])
        self.scale.write(scale)
        mean, spread = scale.figures()
        return {"reward_mean": mean, "reward_spread": spread}

    def _product(self, state: jax.Array, action: jax.Array) -> jax.Array:
        goal = self._goal()
        backward = networks.backward_of(self.backward, goal)  # (d,)
        z = networks.reward_z(goal, backward, self.config["z"])
        z = jnp.broadcast_to(z, (len(state), *z.shape))
        return losses.product([head(state, action, z) for head in self.heads], backward, bool(self.config["pessimism"]))

    def reward(self, inputs: jax.Array, action: jax.Array) -> jax.Array:
        """r_FB of equation (9), the smaller of the two heads; by flag less its running mean, over its running spread.

        Args:
            inputs: What ``forward_state`` names of the current observations, (B, numbers).
            action: The actions chosen on them, as :meth:`flat_action` gives them, (B, action).

        Returns:
            float32 (B,).
        """
        state = self._state("forward_state", {self.config["forward_state"]: f32(inputs)})
        reward = self._product(state, action)
        return self.scale.read().normalise(reward) if self.scale else reward

    def ready(self) -> jax.Array:
        """Whether there is an r_FB to pay: one that is normalised means nothing before the first figures are in."""
        return self.scale.read().seen > 0 if self.scale else jnp.ones((), bool)

    def _action_size(self) -> int:
        return sum(int(np.prod(space.shape)) for space in self.act_space.values())

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
