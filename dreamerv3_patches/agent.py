"""The official agent with the forward-backward representation inside it, and the paper's two learning rates.

Upstream splits an agent in two: a *model* (what is computed, traced by JAX) and an *outer* agent (parameters, locks,
devices), built by its ``__new__`` from one fixed class. :func:`make_agent` builds our subclasses of both.
"""

import contextlib
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import elements
import jax
import jax.numpy as jnp
import ninjax as nj
import numpy as np
import optax

from dreamerv3_patches.apply import apply
from genreward_jax.errors import UserError

apply()

import dreamerv3.agent  # noqa: E402  (its libraries must be repaired first)
import dreamerv3.rssm  # noqa: E402
import embodied  # noqa: E402
import embodied.jax.agent  # noqa: E402
import embodied.jax.transform  # noqa: E402
from embodied.jax import internal  # noqa: E402

from dreamerv3_patches import repairs  # noqa: E402
from dreamerv3_patches.forward_backward import ForwardBackward, check  # noqa: E402

Tree = Any
FB, COPY = "fb/", "fbenc/"  # prefixes of the parameters that are ours


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
        fb: The ``fb`` section of the configuration, or None for the official agent without FB.
        reward_interval: A row is paid when its number of steps since the reset is a multiple of this.
        verbose: Print what upstream prints (spaces, sizes, parameters).

    Raises:
        UserError: Wrong ``fb`` settings, or an encoder that leaves too coarse an image.
    """
    if fb is not None:
        check(fb)
    repairs.set_verbose(verbose)
    fields = embodied.jax.agent.Options.__dataclass_fields__
    internal.setup(**{key: value for key, value in config.jax.items() if key not in fields})
    model = Model.__new__(Model)
    model.__init__(dict(obs_space), dict(act_space), config, fb, reward_interval)
    agent = Agent.__new__(Agent)
    options = embodied.jax.agent.Options(**{key: value for key, value in config.jax.items() if key in fields})
    agent.__init__(model, dict(obs_space), dict(act_space), config, options)
    return agent


class Recorder:
    """Calls a module and keeps what went in and what came out, for who cannot reach the place of the call."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.args: tuple = ()
        self.result: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.args, self.result = args, None
        self.result = self.module(*args, **kwargs)
        return self.result

    def take(self) -> tuple[tuple, Any]:
        """(arguments, result) of the last call, forgotten here: tracers must not outlive their trace."""
        taken = self.args, self.result
        self.args, self.result = (), None
        return taken


class Model(dreamerv3.agent.Agent):
    """What is computed: the official model, FB's update after its own, r_FB beside its action."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Model":
        return object.__new__(cls)  # upstream's would build an outer agent around it

    def __init__(self, obs_space: dict, act_space: dict, config: elements.Config, fb: Any, interval: int) -> None:
        super().__init__(obs_space, act_space, config)
        self.fb, self.fb_config, self.interval = None, fb, int(interval)
        if fb is None:
            return
        self.fb = ForwardBackward(act_space, dict(fb), name="fb")
        spaces = {k: v for k, v in obs_space.items() if k not in ("is_first", "is_last", "is_terminal", "reward")}
        self.enc_copy = dreamerv3.rssm.Encoder(spaces, **config.enc[config.enc.typ], name="fbenc")
        self.opt, self.enc = Recorder(self.opt), Recorder(self.enc)

    def _make_opt(self, lr: float = 4e-5, **kwargs: Any) -> optax.GradientTransformation:
        """Upstream's chain, with the updates of actor and critic scaled to ``config.actor_critic_lr`` (Table A).

        Every step of the chain after the gradients' own scaling is linear in the learning rate, so scaling the
        update is the same as a chain with that rate. Can go: when upstream takes a rate a module.
        """
        chain = super()._make_opt(lr=lr, **kwargs)
        rate = self.config.actor_critic_lr if "actor_critic_lr" in self.config else lr
        if rate == lr:
            return chain
        group = lambda key: "actor_critic" if key.startswith(("pol/", "val/")) else "world_model"
        scales = {"world_model": optax.identity(), "actor_critic": optax.scale(rate / lr)}
        return optax.chain(chain, optax.partition(scales, lambda params: {key: group(key) for key in params}))

    @property
    def policy_keys(self) -> str:
        keys = super().policy_keys
        if self.fb is None:
            return keys
        copied = "|fbenc/" if self.fb_config["encoder"] == "frozen" else ""
        return f"{keys}|^(fb/(map|forward0|forward1|backward|goal|frozen)/{copied})"

    def init_policy(self, batch_size: int) -> tuple:
        carry = super().init_policy(batch_size)
        if self.fb is None:
            return carry
        return (*carry, {"steps": jnp.zeros((batch_size,), jnp.int32)})

    def init_train(self, batch_size: int) -> tuple:
        return super().init_policy(batch_size)

    def init_report(self, batch_size: int) -> tuple:
        return super().init_policy(batch_size)

    def policy(self, carry: tuple, obs: dict, mode: str = "train") -> tuple:
        """Upstream's policy; with FB also r_FB of the chosen action where the next row will be paid.

        Adds ``reward_fb`` float32 (B,), 0 where nothing is due, and ``reward_fb_paid`` bool (B,).
        """
        if self.fb is None:
            return super().policy(carry, obs, mode)
        *carry, own = carry
        carry, act, out = super().policy(tuple(carry), obs, mode)
        _, (_, _, tokens) = self.enc.take()
        steps = jnp.where(obs["is_first"], 0, own["steps"] + 1)
        due = jnp.zeros(steps.shape, bool)
        reward = jnp.zeros(steps.shape, jnp.float32)
        if mode != "eval":
            due = ((steps + 1) % self.interval == 0) & ~obs["is_last"]
            if self.fb_config["pays_from"] == "frozen":
                due &= self.fb.frozen.read()
            compute = lambda: self._reward(tokens, obs, act)
            reward = jnp.where(due, nj.cond(due.any(), compute, lambda: jnp.zeros(steps.shape, jnp.float32)), 0.0)
        out = {**out, "reward_fb": reward, "reward_fb_paid": due}
        return (*carry, {"steps": steps}), act, out

    def _reward(self, tokens: jax.Array, obs: dict, act: dict) -> jax.Array:
        if self.fb_config["encoder"] == "frozen":
            copied = self._copied_tokens(obs, obs["is_first"], single=True)
            tokens = jnp.where(self.fb.frozen.read(), copied, tokens)
        return self.fb.reward(tokens, self.fb.flat_action(act))

    def _copied_tokens(self, obs: dict, reset: jax.Array, single: bool) -> jax.Array:
        """Tokens by the encoder as it was when FB was frozen."""
        return self.enc_copy({}, obs, reset, training=False, single=single)[2]

    def train(self, carry: tuple, data: dict) -> tuple:
        """Upstream's train step, then one update of FB on the same batch and the tokens it computed."""
        carry, outs, metrics = super().train(carry, data)
        if self.fb is not None:
            own = self._train_fb(data)
            metrics.update({f"{FB}{key}": value for key, value in own.items()})
        return carry, outs, metrics

    def _train_fb(self, data: dict) -> dict[str, jax.Array]:
        (_, _, obs, prevact), (_, (_, _, outs, _)) = self.opt.take()
        self.enc.take()
        if nj.creating():
            self._copied_tokens(obs, obs["is_first"], single=False)
        return self.fb.train(lambda: self._fb_batch(data, obs, prevact, jax.lax.stop_gradient(outs)))

    def _fb_batch(self, data: dict, obs: dict, prevact: dict, outs: dict) -> dict[str, jax.Array]:
        """What FB trains on, see :meth:`ForwardBackward.train`."""
        # Row t of prevact holds the action of row t - 1; the last row's own action is the batch's last.
        acts = {k: jnp.concatenate([v[:, 1:], data[k][:, -1:]], 1) for k, v in prevact.items()}
        if self.fb_config["next_action"] == "agent":
            feat = jax.tree.map(lambda x: x[:, 1:], outs["repfeat"])
            policy = self.pol(self.feat2tensor(feat), bdims=2)
            following = jax.lax.stop_gradient(jax.tree.map(lambda x: x.sample(nj.seed()), policy))
        else:
            following = jax.tree.map(lambda x: x[:, 1:], acts)
        return {
            "tokens": jnp.float32(outs["tokens"]),
            "action": self.fb.flat_action(acts),
            "next_action": self.fb.flat_action(following),
            "is_first": obs["is_first"],
            "is_terminal": obs["is_terminal"],
        }

    def drift(self, obs: dict) -> jax.Array:
        """||live - copy|| / ||copy|| of the encoder's tokens of (N,) observations, a float32 scalar."""
        reset = jnp.ones((len(next(iter(obs.values()))),), bool)
        live = jnp.float32(self.enc({}, obs, reset, training=False, single=True)[2])
        self.enc.take()
        copy = jnp.float32(self._copied_tokens(obs, reset, single=True))
        return jnp.linalg.norm(live - copy) / jnp.maximum(jnp.linalg.norm(copy), 1e-12)


class Agent(embodied.jax.agent.Agent):
    """Parameters, locks and devices: upstream's, plus the goal, the freezing, and patience with extra keys."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Agent":
        return object.__new__(cls)

    def __init__(self, model: Model, *args: Any) -> None:
        self._change = threading.RLock()  # a train step, and changes of single parameters, exclude each other
        super().__init__(model, *args)
        self._goal_set = self._frozen = False
        self._drift = embodied.jax.transform.apply(
            nj.pure(model.drift),
            self.train_mesh,
            (self.train_params_sharding, self.train_mirrored, self.train_mirrored),
            (self.train_mirrored,),
            single_output=True,
        )

    @property
    def fb_frozen(self) -> bool:
        """Whether FB's training is over; True without FB."""
        return self.model.fb is None or self._frozen

    def policy(self, carry: Tree, obs: Mapping[str, np.ndarray], mode: str = "train") -> tuple:
        """Upstream's, on the observations it knows: a row's own keys (``reward_env`` and the like) are dropped."""
        return super().policy(carry, {key: obs[key] for key in self.obs_space}, mode)

    def train(self, carry: Tree, data: dict) -> tuple:
        """Upstream's; metrics of a step in which FB did not learn leave FB's out."""
        if self.model.fb is not None and not self._goal_set:
            raise RuntimeError("FB trains towards a goal: call set_goal(psi) before train()")
        with self._change:
            carry, outs, metrics = super().train(carry, data)
        if not metrics.pop(f"{FB}trained", True):
            metrics = {key: value for key, value in metrics.items() if not key.startswith(FB)}
        return carry, outs, metrics

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

    def set_goal(self, psi: np.ndarray) -> None:
        """Gives FB its goal: psi(I*), float32 (384,)."""
        psi = np.asarray(psi, np.float32)
        shape = self.params[f"{FB}goal/value"].shape
        if psi.shape != shape or not np.isfinite(psi).all():
            raise UserError(f"A goal embedding is {shape[0]} finite numbers; this one has shape {psi.shape}.")
        self._assign({f"{FB}goal/value": psi})
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

    def load(self, data: dict, regex: str | None = None) -> None:
        """Upstream's; also forgets parameters that were on their way to the policy."""
        with self._change:
            super().load(data, regex)
            self.pending_sync = self.pending_outs = self.pending_mets = None
            if self.model.fb is not None:
                self._goal_set = bool(jax.device_get(self.params[f"{FB}goal/value"]).any())
                self._frozen = bool(jax.device_get(self.params[f"{FB}frozen/value"]))

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
