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

from dreamerv3_patches.forward_backward import ForwardBackward  # noqa: E402

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
