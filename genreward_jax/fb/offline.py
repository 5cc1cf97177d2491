"""FB trained on recorded episodes alone: F, B and pi_z on DINOv3 embeddings, without an agent around them.

fb = train(embeddings, actions, goal)
rewards = fb.values(embeddings[0][:-1], actions[0][:-1])
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from genreward_jax.errors import UserError
from genreward_jax.fb import losses, networks, sampling
from genreward_jax.fb import standard as standard_lib
from genreward_jax.fb.actor import Actor, noisy
from genreward_jax.fb.settings import AUTO

STEPS = 50  # updates in one compiled call
CHUNK = 4096  # states in one call of `values`

# Chosen by a probe on tasks and seeds other than those reported (docs/fidelity.md).
DEFAULTS: dict[str, Any] = {
    "dim": 64,
    "hidden": 128,
    "lr": 3e-4,
    "target_rate": 0.015,
    "discount": -1.0,
    "ortho": 1.0,
    "pessimism": True,
    "next_action": "auto",
    "actor_noise": 0.2,
    "z_mix": -1.0,
    "components": 32,
    "whiten": 0.0,
}


@dataclass
class OfflineFB:
    """Trained networks and the goal that they are asked about.

    Attributes:
        params: Of the two heads, B and, where there is one, the actor.
        settings: With every 'auto' replaced.
        standard: What the networks see of an embedding.
        goal: As the networks see it, float32 (k,) or, of several frames, (G, k).
        actions: Numbers in an action.
        metrics: Every term of the losses, the mean of each call of 50 updates.
    """

    params: dict[str, Any]
    settings: dict[str, Any]
    standard: standard_lib.Standard
    goal: np.ndarray
    actions: int
    metrics: dict[str, list[float]] = field(default_factory=dict)

    def values(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """r_FB of equation (9), F(s, a, z).B(psi) with z = B(psi), the smaller of the heads or their mean.

        Args:
            states: Embeddings of the frames on which the actions were chosen, (N, n).
            actions: (N, A).

        Returns:
            float32 (N,).
        """
        return self._chunked(_values, states, np.asarray(actions, np.float32))

    def policy(self, states: np.ndarray) -> np.ndarray:
        """What pi_z does on its way to the goal; states (N, n), result float32 (N, A) in [-1, 1].

        Raises:
            UserError: It was trained without an actor.
        """
        if "actor" not in self.params:
            raise UserError("this FB has no policy of its own: train it with next_action actor")
        return self._chunked(_policy, states)

    def with_goal(self, goal: np.ndarray) -> "OfflineFB":
        """The same networks, asked about another goal, (n,) or (G, n)."""
        return replace(self, goal=self.standard(goal))

    def _chunked(self, function: Callable, states: np.ndarray, *more: np.ndarray) -> np.ndarray:
        inputs = (self.standard(states), *more)
        made = _networks(self.settings, self.actions)
        parts = []
        for start in range(0, len(inputs[0]), CHUNK):
            parts.append(function(made, self.params, self.goal, *[x[start : start + CHUNK] for x in inputs]))
        return np.concatenate([np.asarray(part) for part in parts])


def train(
    embeddings: Sequence[np.ndarray],
    actions: Sequence[np.ndarray],
    goal: np.ndarray,
    *,
    objective: str = "measure",
    settings: Mapping[str, Any] = {},
    updates: int = 2000,
    batch: int = 256,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> OfflineFB:
    """Trains F, B and, by default under ``measure``, pi_z on recorded episodes; the same seed gives the same.

    Args:
        embeddings: For each episode, (T + 1, n): a row for each frame, row 0 the reset.
        actions: For each episode, (T + 1, A): row t the action taken at row t, the last row's is not read.
        goal: The goal's embedding, (n,), or those of several frames of it, (G, n).
        objective: measure or paper.
        settings: Laid over :data:`DEFAULTS`.
        updates: How many.
        batch: Transitions in each, drawn one by one from all episodes.
        progress: Called with (updates done, updates in all).

    Raises:
        UserError: A setting or objective that there is not.
        ValueError: Arrays that do not fit together.
    """
    losses.objective(objective)
    settings = {**_resolve(objective, settings), "updates": updates}
    _check(embeddings, actions, goal)
    standard = standard_lib.fit(np.concatenate(embeddings), int(settings["components"]), float(settings["whiten"]))
    data = _transitions(standard, embeddings, actions, settings["next_action"] == "replay")
    made = _networks(settings, data["action"].shape[-1])
    target = standard(goal)
    key, start = jax.random.split(jax.random.key(seed))
    params = _initial(made, start, data)
    fb, actor = _split(params)
    carry = (params, params, (made.opt.init(fb), made.opt.init(actor)))
    history: dict[str, list[float]] = {}
    for done in range(0, updates, STEPS):
        count = min(STEPS, updates - done)
        keys = jax.random.split(jax.random.fold_in(key, done), count)
        carry, metrics = _updates(made, objective, batch, carry, keys, data, target)
        for name, value in metrics.items():
            history.setdefault(name, []).append(float(value))
        if progress is not None:
            progress(done + count, updates)
    return OfflineFB(carry[0], settings, standard, target, made.actions, history)


def _resolve(objective: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    for name in settings:
        if name not in DEFAULTS:
            raise UserError(f"FB on recorded episodes has no setting '{name}'; there are {', '.join(DEFAULTS)}.")
    merged = {**DEFAULTS, **settings, "objective": objective}
    merged |= {key: value for key, value in AUTO[objective].items() if merged.get(key) in ("auto", -1)}
    if merged["next_action"] not in ("replay", "actor"):
        raise UserError(f"next_action is '{merged['next_action']}': without an agent it can be replay or actor.")
    return merged


def _check(embeddings: Sequence[np.ndarray], actions: Sequence[np.ndarray], goal: np.ndarray) -> None:
    if len(embeddings) != len(actions) or not len(embeddings):
        raise ValueError(f"{len(embeddings)} episodes of embeddings and {len(actions)} of actions")
    for x, a in zip(embeddings, actions, strict=True):
        if x.ndim != 2 or a.ndim != 2 or len(x) != len(a) or len(x) < 3 or x.shape[1:] != np.shape(goal)[-1:]:
            raise ValueError(f"an episode of embeddings {x.shape} and actions {a.shape} for a goal {np.shape(goal)}")
        if not (np.isfinite(x).all() and np.isfinite(a).all()):
            raise ValueError("an embedding or an action is not finite")


def _transitions(standard, embeddings, actions, replayed: bool) -> dict[str, jax.Array]:
    """Rows (s, a, s', a') of all episodes; an episode's last one, whose a' is not known, only if that is not read."""
    last = -1 if replayed else None
    rows = [
        (standard(x)[:-1][:last], a[:-1][:last], standard(x)[1:][:last], a[1:][:last])
        for x, a in zip(embeddings, actions, strict=True)
    ]
    names = ("state", "action", "next_state", "next_action")
    joined = (np.concatenate(column) for column in zip(*rows, strict=True))
    return {name: jnp.asarray(x, jnp.float32) for name, x in zip(names, joined, strict=True)}


@dataclass(frozen=True)
class _Networks:
    """Modules and optimiser, by value, so that one compiled program serves every call with equal settings."""

    forward: networks.Forward
    backward: networks.Backward
    actor: Actor
    settings: tuple[tuple[str, Any], ...]

    @property
    def opt(self) -> optax.GradientTransformation:
        """Adam; the rate falls to nothing along a cosine, which settles what the batches' noise keeps astir."""
        return optax.adam(optax.cosine_decay_schedule(float(self["lr"]), max(1, self["updates"])))

    @property
    def actions(self) -> int:
        return self.actor.actions

    def __getitem__(self, name: str) -> Any:
        return dict(self.settings)[name]

    def backward_of(self, params, goal) -> jax.Array:
        return networks.backward_of(partial(self.backward.apply, params["backward"]), goal)

    def heads(self, params, state, action, z) -> list[jax.Array]:
        return [self.forward.apply(params[name], state, action, z) for name in ("forward0", "forward1")]


def _networks(settings: Mapping[str, Any], actions: int) -> _Networks:
    dim, hidden = int(settings["dim"]), int(settings["hidden"])
    known = tuple(sorted(settings.items()))
    return _Networks(networks.Forward(dim, hidden), networks.Backward(dim, hidden), Actor(actions, hidden), known)


def _initial(made: _Networks, key: jax.Array, data: Mapping[str, jax.Array]) -> dict[str, Any]:
    state, action = data["state"][:1], data["action"][:1]
    z = jnp.zeros((1, made.backward.dim))
    keys = jax.random.split(key, 4)
    params = {f"forward{i}": made.forward.init(keys[i], state, action, z) for i in range(2)}
    params["backward"] = made.backward.init(keys[2], state)
    if made["next_action"] == "actor":
        params["actor"] = made.actor.init(keys[3], state, z)
    return params


def _split(params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The networks of FB, and the actor: each is trained on a loss of its own."""
    own = {key: value for key, value in params.items() if key == "actor"}
    return {key: value for key, value in params.items() if key != "actor"}, own


@partial(jax.jit, static_argnums=(0, 1, 2))
def _updates(made, objective, batch, carry, keys, data, goal):
    """As many updates as there are keys; the metrics are their means."""
    carry, metrics = jax.lax.scan(partial(_update, made, objective, batch, data, goal), carry, keys)
    return carry, jax.tree.map(lambda x: x.mean(0), metrics)


def _update(made: _Networks, objective: str, batch: int, data, goal, carry, key):
    params, slow, (moments, actor_moments) = carry
    keys = jax.random.split(key, 4)
    rows = jax.random.randint(keys[0], (batch,), 0, len(data["state"]))
    x = {name: value[rows] for name, value in data.items()}
    fb, actor = _split(params)
    z = sampling.sample_z(keys[1], made.backward.apply(fb["backward"], x["next_state"]), float(made["z_mix"]))
    if actor:
        action = made.actor.apply(slow["actor"], x["next_state"], z)
        x["next_action"] = noisy(action, keys[2], float(made["actor_noise"]), 1.5 * float(made["actor_noise"]))
    grads, metrics = jax.grad(partial(_fb_loss, made, objective), has_aux=True)(fb, slow, x, z, goal)
    changes, moments = made.opt.update(grads, moments)
    fb = optax.apply_updates(fb, changes)
    if actor:
        grads, more = jax.grad(partial(_actor_loss, made), has_aux=True)(actor, fb, x, z, keys[3])
        changes, actor_moments = made.opt.update(grads, actor_moments)
        actor, metrics = optax.apply_updates(actor, changes), {**metrics, **more}
    params, rate = {**fb, **actor}, float(made["target_rate"])
    slow = jax.tree.map(lambda new, old: rate * new + (1 - rate) * old, params, slow)
    return (params, slow, (moments, actor_moments)), metrics


def _fb_loss(made: _Networks, objective: str, fb, slow, x, z, goal):
    reps = losses.Representations(
        forward=made.heads(fb, x["state"], x["action"], z),
        target_forward=made.heads(slow, x["next_state"], x["next_action"], z),
        backward_goal=made.backward_of(fb, goal),
        target_backward_goal=made.backward_of(slow, goal),
        backward_next=made.backward.apply(fb["backward"], x["next_state"]),
        target_backward_next=made.backward.apply(slow["backward"], x["next_state"]),
        discount=jnp.full(len(z), float(made["discount"])),
        weight=jnp.ones(len(z)),
    )
    return losses.objective(objective)(reps, float(made["ortho"]), bool(made["pessimism"]))


def _actor_loss(made: _Networks, actor, fb, x, z, key):
    noise = float(made["actor_noise"])
    action = noisy(made.actor.apply(actor["actor"], x["state"], z), key, noise, 1.5 * noise)
    forward = made.heads(fb, x["state"], action, z)
    return losses.actor(forward, z, jnp.ones(len(z)), bool(made["pessimism"]))


@partial(jax.jit, static_argnums=0)
def _values(made: _Networks, params, goal, states, actions):
    backward = made.backward_of(params, goal)  # (d,)
    z = jnp.broadcast_to(backward, (len(states), len(backward)))
    return losses.product(made.heads(params, states, actions, z), backward, bool(made["pessimism"]))


@partial(jax.jit, static_argnums=0)
def _policy(made: _Networks, params, goal, states):
    backward = made.backward_of(params, goal)
    z = jnp.broadcast_to(backward, (len(states), len(backward)))
    return made.actor.apply(params["actor"], states, z)
