"""The official agent with the forward-backward representation inside it, and the paper's two learning rates.

Upstream splits an agent in two: a *model* (what is computed, traced by JAX) and an *outer* agent (parameters, locks,
devices), built by its ``__new__`` from one fixed class. :func:`make_agent` builds our subclasses of both.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import elements
import jax
import ninjax as nj
import numpy as np

from dreamerv3_patches.apply import apply
from genreward_jax import frame_states
from genreward_jax.errors import UserError

apply()

import embodied  # noqa: E402  (its libraries must be repaired first)
import embodied.jax.agent  # noqa: E402
import embodied.jax.transform  # noqa: E402
from embodied.jax import internal  # noqa: E402

from dreamerv3_patches import repairs  # noqa: E402
from dreamerv3_patches.model import COPY, FB, Model  # noqa: E402
from genreward_jax.fb import settings as settings_lib  # noqa: E402

Tree = Any
CHUNK = 256  # rows in one call of fb_values' program


def make_agent(
    obs_space: Mapping[str, elements.Space],
    act_space: Mapping[str, elements.Space],
    config: elements.Config,
    *,
    fb: Mapping[str, Any] | None,
    reward_interval: int,
    verbose: bool = False,
) -> "Agent":
    """The official agent, ready to train.

    Args:
        obs_space: Observations without ``log/`` keys and without the reward's own keys.
        act_space: Actions without ``reset``.
        config: What upstream's agent takes: ``config.agent`` with logdir, seed, jax, batch sizes and replicas; with
            ``actor_critic_lr`` the actor and the critic learn at a rate of their own.
        fb: The ``fb`` section of the configuration, or None for the official agent without FB. With ``dino_every`` 0
            it counts on an embedding of every row.
        reward_interval: A row is paid when its number of steps since the reset is a multiple of this.
        verbose: Print what upstream prints (spaces, sizes, parameters).

    Raises:
        UserError: Wrong ``fb`` settings, or an encoder that leaves too coarse an image.
    """
    if fb is not None:
        fb = settings_lib.resolve(fb)
        settings_lib.check_spaces(fb, obs_space, act_space)
    repairs.set_verbose(verbose)
    fields = embodied.jax.agent.Options.__dataclass_fields__
    repairs.keeping_xla_flags(internal.setup, **{k: v for k, v in config.jax.items() if k not in fields})
    model = Model.__new__(Model)
    model.__init__(dict(obs_space), dict(act_space), config, fb, reward_interval)
    agent = Agent.__new__(Agent)
    options = embodied.jax.agent.Options(**{key: value for key, value in config.jax.items() if key in fields})
    agent.__init__(model, dict(obs_space), dict(act_space), config, options)
    return agent


class Agent(embodied.jax.agent.Agent):
    """Parameters, locks and devices: upstream's, plus the goal, the freezing, and patience with extra keys."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Agent":
        return object.__new__(cls)

    def __init__(self, model: Model, *args: Any) -> None:
        self._change = threading.RLock()  # a train step, and changes of single parameters, exclude each other
        super().__init__(model, *args)
        self._goal_set = self._frozen = False
        self._programs: dict[bool, Any] = {}  # train steps by whether FB learns in them, but the one in use
        self.embed_state: Callable[[np.ndarray], np.ndarray] | None = None  # uint8 (N, H, W, 3) to float32 (N, n)
        self._drift = embodied.jax.transform.apply(
            nj.pure(model.drift),
            self.train_mesh,
            (self.train_params_sharding, self.train_mirrored, self.train_mirrored),
            (self.train_mirrored,),
            single_output=True,
        )
        mirrored = self.train_mirrored
        self._values = embodied.jax.transform.apply(
            nj.pure(model.values), self.train_mesh, (self.train_params_sharding, *[mirrored] * 6), (mirrored, mirrored)
        )

    @property
    def fb_frozen(self) -> bool:
        """Whether FB's training is over; True without FB."""
        return self.model.fb is None or self._frozen

    def policy(self, carry: Tree, obs: Mapping[str, np.ndarray], mode: str = "train") -> tuple:
        """Upstream's, on the observations it knows: a row's own keys (``reward_env`` and the like) are dropped.

        Where F sees embeddings, those of the frames before a paid row are had from :attr:`embed_state` first.
        """
        if self.model.pays_for_dino and mode != "eval":
            carry = (*carry[:-1], self._with_embeddings(carry[-1], obs))
        return super().policy(carry, {key: obs[key] for key in self.obs_space}, mode)

    def _with_embeddings(self, own: dict[str, list], obs: Mapping[str, np.ndarray]) -> dict[str, list]:
        """FB's part of the carry, with embeddings of the frames whose r_FB will be paid."""
        if self.model.fb_config["pays_from"] == "frozen" and not self._frozen:
            return own
        steps = np.where(obs["is_first"], 0, np.array(jax.device_get(own["steps"])) + 1)
        due = np.flatnonzero(((steps + 1) % self.model.interval == 0) & ~np.asarray(obs["is_last"]))
        if not len(due):
            return own
        if self.embed_state is None:
            raise RuntimeError("F sees embeddings of frames: give the agent what makes them (embed_state)")
        found, dino = self.embed_state(np.asarray(obs["image"])[due]), list(own["dino"])
        for index, value in zip(due, found, strict=True):
            dino[index] = internal.device_put(np.asarray(value, np.float32), self.policy_mirrored)
        return {**own, "dino": dino}

    def train(self, carry: Tree, data: dict) -> tuple:
        """Upstream's; metrics of a step in which FB did not learn leave FB's out."""
        if self.model.fb is not None and not self._goal_set:
            raise RuntimeError("FB trains towards a goal: call set_goal(goal) before train()")
        with self._change:
            carry, outs, metrics = super().train(carry, data)
        if not metrics.pop(f"{FB}trained", True):
            metrics = {key: value for key, value in metrics.items() if not key.startswith(FB)}
        return carry, outs, metrics

    def compile_train(self) -> None:
        """Compiles the train step ahead of the first one; may run on another thread than the policy."""
        with self._change:
            self._compile_train()

    def train_cost(self) -> tuple[float, float]:
        """(floating point operations, bytes read and written) of a train step on all devices, as XLA counts them."""
        self.compile_train()
        cost = self._train.cost_analysis()
        cost = cost[0] if isinstance(cost, list) else cost
        devices = len(self.train_devices)
        return devices * float(cost["flops"]), devices * float(cost.get("bytes accessed", 0.0))

    def wait(self) -> None:
        """Returns when no train step is under way."""
        jax.block_until_ready(self.params)

    def stream(self, source: Iterable, prefetch: bool = True) -> Iterable:
        """Batches on the device, with the keys the agent knows.

        Args:
            source: A stream of replay batches.
            prefetch: Fetch the next batch in a thread while this one is trained on; False takes each batch when it
                is asked for, so that what it holds does not depend on timing.
        """
        known = embodied.streams.Map(source, lambda data: {key: data[key] for key in self.spaces})
        stream = super().stream(known)
        return stream if prefetch else Synchronous(stream.source, stream.transform)

    def set_goal(self, goal: np.ndarray) -> None:
        """Gives FB its goal, float32: as :func:`genreward_jax.frame_states.goal_states` makes it."""
        goal = np.asarray(goal, np.float32)
        shape = self.params[f"{FB}goal/value"].shape
        if goal.shape != shape or not np.isfinite(goal).all():
            raise UserError(f"A goal is finite numbers of shape {shape} here; this one has shape {goal.shape}.")
        self._assign({f"{FB}goal/value": goal})
        self._goal_set = True

    def freeze_fb(self) -> None:
        """Ends FB's training for good and keeps a copy of the encoder as it is now."""
        if self.model.fb is None or self._frozen:
            return
        with self._change:
            live = jax.device_get({k: v for k, v in self.params.items() if k.startswith("enc/")})
            copy = {COPY + key.removeprefix("enc/"): np.array(value) for key, value in live.items()}
            self._assign({**copy, f"{FB}frozen/value": np.array(True)})
            self._frozen = True
            self._choose_program()

    def _choose_program(self) -> None:
        """Takes the train step with FB's update or the one without; the first time that one is compiled, when used."""
        learns, model = not self._frozen, self.model
        if learns == model.learns_fb:
            return
        self._programs[model.learns_fb] = self._train
        model.learns_fb = learns
        self._train = self._programs.pop(learns, None) or self._make_train()

    def _make_train(self) -> Any:
        """The train step as upstream makes it, parameters that no policy reads given away; compiled when called."""
        shardings, tm, ts = self.train_params_sharding, self.train_mirrored, self.train_sharded
        kept = {key: value for key, value in shardings.items() if key in self.policy_keys}
        given = {key: value for key, value in shardings.items() if key not in self.policy_keys}
        return embodied.jax.transform.apply(
            nj.pure(self.model.train),
            self.train_mesh,
            (given, kept, tm, ts, ts),
            (shardings, ts, ts, tm),
            self.partition_rules[1],
            return_params=True,
            donate_params=True,
            first_outnums=(3,),
            use_shardmap=self.jaxcfg.use_shardmap,
        )

    def encoder_drift(self, images: np.ndarray | Mapping[str, np.ndarray]) -> float:
        """How far the encoder has moved since FB was frozen: relative L2 distance of its tokens; 0 before.

        Args:
            images: uint8 (N, H, W, 3), or a dict with every observation that the encoder takes, (N, ...) each.
        """
        if self.model.fb is None or not self.fb_frozen:
            return 0.0
        if not isinstance(images, Mapping):
            (key,) = self.model.enc.obs_space
            images = {key: images}
        with self._change, self.train_lock:
            obs = internal.device_put({k: np.asarray(v) for k, v in images.items()}, self.train_mirrored)
            result = self._drift(self.params, self._seeds(0, self.train_mirrored), obs)
        return float(jax.device_get(result))

    def fb_values(
        self,
        images: np.ndarray | Mapping[str, np.ndarray],
        actions: np.ndarray,
        dino: np.ndarray | None = None,
        is_first: np.ndarray | None = None,
    ) -> np.ndarray:
        """r_FB (eq. 9) of one episode's rows, as the policy call would have given it on the way to the goal.

        Args:
            images: uint8 (N, H, W, 3), or a dict with every observation that the encoder takes, (N, ...) each.
            actions: The action chosen at each row, (N, ...).
            dino: Embeddings of the frames, float32 (N, numbers): needed where F sees them.
            is_first: Where episodes begin, bool (N,); only read where F sees the world model's state. None is row 0.

        Returns:
            float32 (N,); with ``reward_norm`` running, normalised.

        Raises:
            UserError: This agent has no FB, or F sees embeddings and there are none.
        """
        if self.model.fb is None:
            raise UserError("This agent has no forward-backward network: its method has no such reward.")
        if self.model.pays_for_dino and dino is None:
            raise UserError(
                "This agent's F sees DINOv3 embeddings (--fb.forward_state dino): give those of the frames."
            )
        obs = images if isinstance(images, Mapping) else {next(iter(self.model.enc.obs_space)): images}
        count, (key,) = len(actions), self.act_space
        act = np.asarray(actions, self.act_space[key].dtype)
        first = np.arange(count) == 0 if is_first is None else np.asarray(is_first, bool)
        rows = {
            "obs": {**{k: np.asarray(v) for k, v in obs.items()}, "is_first": first},
            "prevact": {key: np.concatenate([np.zeros_like(act[:1]), act[:-1]])},
            "act": {key: act},
            "dino": np.zeros((count, frame_states.numbers(self.model.fb_config)), np.float32) if dino is None else dino,
        }
        rssm = self.model.dyn
        carry = {k: np.zeros((1, *space.shape), np.float32) for k, space in rssm.entry_space.items()}
        values = [np.zeros(0, np.float32)]
        put = lambda x: internal.device_put(x, self.train_mirrored)
        carry = put(carry)
        with self._change, self.train_lock:
            for start in range(0, count, CHUNK):
                kept = np.minimum(np.arange(start, start + CHUNK), count - 1)  # the last chunk is filled up
                chunk = put(jax.tree.map(lambda x, kept=kept: x[kept], rows))
                carry, found = self._values(
                    self.params, self._seeds(0, self.train_mirrored), carry, *[chunk[name] for name in rows]
                )
                values.append(np.asarray(jax.device_get(found)))
        return np.concatenate(values)[:count]

    def load(self, data: dict, regex: str | None = None) -> None:
        """Upstream's; also forgets parameters that were on their way to the policy."""
        with self._change:
            super().load(data, regex)
            self.pending_sync = self.pending_outs = self.pending_mets = None
            if self.model.fb is not None:
                self._goal_set = bool(jax.device_get(self.params[f"{FB}goal/value"]).any())
                self._frozen = bool(jax.device_get(self.params[f"{FB}frozen/value"]))
                self._choose_program()

    def _assign(self, values: Mapping[str, np.ndarray]) -> None:
        """Sets single parameters wherever a copy of them is held, each copy a buffer of its own."""
        with contextlib.ExitStack() as stack:
            [stack.enter_context(lock) for lock in (self._change, self.train_lock, self.policy_lock)]
            put = internal.device_put
            self.params.update({k: put(v, self.train_params_sharding[k]) for k, v in values.items()})
            if not self.jaxcfg.enable_policy:
                return
            for held in (self.policy_params, self.pending_sync):
                if held:
                    own = {k: put(v.copy(), self.policy_params_sharding[k]) for k, v in values.items() if k in held}
                    held.update(own)


class Synchronous:
    """A stream whose batches are made when they are asked for."""

    def __init__(self, source: Any, transform: Any) -> None:
        self.source, self.transform = source, transform

    def __iter__(self) -> "Synchronous":
        return self

    def __next__(self) -> dict:
        return self.transform(next(self.source))

    def save(self) -> Any:
        return self.source.save()

    def load(self, state: Any) -> None:
        self.source.load(state)
