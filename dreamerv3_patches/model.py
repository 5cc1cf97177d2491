"""What the agent computes: the official model, FB's update after its own, r_FB beside its action."""

from typing import Any

import elements
import jax
import jax.numpy as jnp
import ninjax as nj
import optax

from dreamerv3_patches.apply import apply

apply()

import dreamerv3.agent  # noqa: E402  (its libraries must be repaired first)
import dreamerv3.rssm  # noqa: E402

from dreamerv3_patches.forward_backward import AT_POLICY, ForwardBackward  # noqa: E402
from genreward_jax import frame_states  # noqa: E402

FB, COPY = "fb/", "fbenc/"  # prefixes of the parameters that are ours


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
        self.learns_fb = True  # read when a train step is traced
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
        return f"{keys}|^(fb/({AT_POLICY})/{copied})"

    @property
    def ext_space(self) -> dict[str, elements.Space]:
        """What training batches hold beside observations and actions: embeddings too, where FB reads them."""
        spaces = super().ext_space
        return {**spaces, **frame_states.spaces(self.fb_config)} if self.fb and "dino" in self.fb.inputs else spaces

    @property
    def pays_for_dino(self) -> bool:
        """Whether r_FB is asked about an embedding of the current frame, which :meth:`policy` finds in its carry."""
        return self.fb is not None and self.fb_config["forward_state"] == "dino"

    def init_policy(self, batch_size: int) -> tuple:
        carry = super().init_policy(batch_size)
        if self.fb is None:
            return carry
        own = {"steps": jnp.zeros((batch_size,), jnp.int32)}
        if self.pays_for_dino:
            own["dino"] = jnp.zeros((batch_size, frame_states.numbers(self.fb_config)), jnp.float32)
        return (*carry, own)

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
            due &= self.fb.ready()
            inputs = {"tokens": tokens, "deter": carry[1]["deter"], "dino": own.get("dino")}
            compute = lambda: self._reward(inputs[self.fb_config["forward_state"]], obs, act)
            reward = jnp.where(due, nj.cond(due.any(), compute, lambda: jnp.zeros(steps.shape, jnp.float32)), 0.0)
        out = {**out, "reward_fb": reward, "reward_fb_paid": due}
        return (*carry, {**own, "steps": steps}), act, out

    def _reward(self, inputs: jax.Array, obs: dict, act: dict) -> jax.Array:
        if self.fb_config["encoder"] == "frozen":  # inputs are tokens
            copied = self._copied_tokens(obs, obs["is_first"], single=True)
            inputs = jnp.where(self.fb.frozen.read(), copied, inputs)
        return self.fb.reward(inputs, self.fb.flat_action(act))

    def values(self, carry: dict, obs: dict, prevact: dict, act: dict, dino: jax.Array) -> tuple[dict, jax.Array]:
        """r_FB of N consecutive rows, float32 (N,), and what the rows after them go on from.

        Args:
            carry: State of the world model before the rows, (1, ...) each; only read where F sees ``deter``.
            obs: Observations with ``is_first``, (N, ...) each.
            prevact: The action that led to each row, (N, ...) each.
            act: The action chosen at each, (N, ...) each.
            dino: Embeddings, (N, numbers); only read where F sees them.
        """
        if self.pays_for_dino:
            return carry, self._reward(dino, obs, act)
        tokens = self.enc({}, obs, obs["is_first"], training=False, single=True)[2]
        self.enc.take()
        if self.fb_config["forward_state"] == "tokens":
            return carry, self._reward(tokens, obs, act)
        one = lambda xs: jax.tree.map(lambda x: x[None], xs)  # an episode is a batch of one
        rows = (one(tokens), one(prevact), obs["is_first"][None])
        carry, _, feat = self.dyn.observe(carry, *rows, training=False)
        return jax.tree.map(jnp.float32, carry), self._reward(feat["deter"][0], obs, act)

    def _copied_tokens(self, obs: dict, reset: jax.Array, single: bool) -> jax.Array:
        """Tokens by the encoder as it was when FB was frozen."""
        return self.enc_copy({}, obs, reset, training=False, single=single)[2]

    def train(self, carry: tuple, data: dict) -> tuple:
        """Upstream's train step, then one update of FB on the same batch and the tokens it computed.

        With :attr:`learns_fb` off it is upstream's alone: a condition inside the program would copy all of FB's
        parameters at every step, which took 6 % of a step on a CPU.
        """
        carry, outs, metrics = super().train(carry, data)
        if self.fb is not None and not self.learns_fb:
            self.opt.take(), self.enc.take()
        elif self.fb is not None:
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
        rows = obs["is_first"].shape[1]  # the batch's first rows are replay context
        inputs = {
            "tokens": lambda: outs["tokens"],
            "deter": lambda: outs["repfeat"]["deter"],
            "dino": lambda: data["dino"][:, -rows:],
        }
        valid = {"dino_valid": data["dino_valid"][:, -rows:]} if "dino" in self.fb.inputs else {}
        return {
            **{name: jnp.float32(inputs[name]()) for name in self.fb.inputs},
            **valid,
            "action": self.fb.flat_action(acts),
            "next_action": self.fb.flat_action(following),
            "is_first": obs["is_first"],
            "is_terminal": obs["is_terminal"],
        }

    def report(self, carry: tuple, data: dict) -> tuple:
        result = super().report(carry, data)
        if self.fb is not None:
            self.enc.take()
        return result

    def drift(self, obs: dict) -> jax.Array:
        """||live - copy|| / ||copy|| of the encoder's tokens of (N,) observations, a float32 scalar."""
        reset = jnp.ones((len(next(iter(obs.values()))),), bool)
        live = jnp.float32(self.enc({}, obs, reset, training=False, single=True)[2])
        self.enc.take()
        copy = jnp.float32(self._copied_tokens(obs, reset, single=True))
        return jnp.linalg.norm(live - copy) / jnp.maximum(jnp.linalg.norm(copy), 1e-12)
