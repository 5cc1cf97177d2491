"""The official agent with the forward-backward representation inside it, and the paper's two learning rates.

Upstream splits an agent in two: a *model* (what is computed, traced by JAX) and an *outer* agent (parameters, locks,
devices), built by its ``__new__`` from one fixed class. :func:`make_agent` builds our subclasses of both.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Any

import elements
import jax
import ninjax as nj
import numpy as np

from dreamerv3_patches.apply import apply

apply()

import embodied  # noqa: E402  (its libraries must be repaired first)
import embodied.jax.agent  # noqa: E402
import embodied.jax.transform  # noqa: E402
from embodied.jax import internal  # noqa: E402

from dreamerv3_patches import repairs  # noqa: E402
from dreamerv3_patches.forward_backward_side import ForwardBackwardSide  # noqa: E402
from dreamerv3_patches.model import FB, Model  # noqa: E402
from genreward_jax import operations  # noqa: E402
from genreward_jax.fb import settings as settings_lib  # noqa: E402

Tree = Any


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


class Agent(ForwardBackwardSide, embodied.jax.agent.Agent):
    """Parameters, locks and devices: upstream's, plus the goal, the freezing, and patience with extra keys."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Agent":
        return object.__new__(cls)

    def __init__(self, model: Model, *args: Any) -> None:
        self._change = threading.RLock()  # a train step, and changes of single parameters, exclude each other
        self._uncompiled: dict[bool, Any] = {}  # the train steps that are compiled, as they were before
        super().__init__(model, *args)
        self._programs: dict[bool, Any] = {}  # train steps by whether FB learns in them, but the one in use
        self._begin_fb()

    def policy(self, carry: Tree, obs: Mapping[str, np.ndarray], mode: str = "train") -> tuple:
        """Upstream's, on the observations it knows: a row's own keys (``reward_env`` and the like) are dropped.

        Where F sees embeddings, those of the frames before a paid row are had from :attr:`embed_state` first.
        """
        if self.model.pays_for_dino and mode != "eval":
            carry = (*carry[:-1], self._with_embeddings(carry[-1], obs))
        return super().policy(carry, {key: obs[key] for key in self.obs_space}, mode)

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
        """Compiles the train step ahead of the first one, once; may run on another thread than the policy."""
        with self._change:
            if hasattr(self._train, "lower"):  # else it is compiled already
                self._compile_train()

    def _compile_train(self) -> None:
        self._uncompiled[self.model.learns_fb] = self._train
        super()._compile_train()

    def train_cost(self) -> tuple[float, float]:
        """(floating point operations, bytes) of a train step on all devices, as :mod:`genreward_jax.operations`
        counts them in the program of the moment; for that it is traced, if it was not before, and not compiled.
        """
        config = self.config
        rows = config.batch_size, config.batch_length + config.replay_context
        data = {key: jax.ShapeDtypeStruct((*rows, *space.shape), space.dtype) for key, space in self.spaces.items()}
        with self._change:
            kept = {key: value for key, value in self.params.items() if key in self.policy_keys}
            given = {key: value for key, value in self.params.items() if key not in self.policy_keys}
            seed, carry = self._seeds(0, self.train_mirrored), self.init_train(config.batch_size)
            program = self._uncompiled.get(self.model.learns_fb, self._train)
            return operations.cost(program, given, kept, seed, carry, data)

    def policy_cost(self, carry: Tree, obs: Mapping[str, np.ndarray]) -> tuple[float, float]:
        """The same of a policy call; arguments as of :meth:`policy`."""
        with self.policy_lock:
            seen = internal.device_put({key: obs[key] for key in self.obs_space}, self.policy_sharded)
            carry = internal.to_global(self._stack(carry), self.policy_sharded)
            seed = self._seeds(0, self.policy_mirrored)
            return operations.cost(self._policy, self.policy_params, seed, carry, seen, "train")

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

    def load(self, data: dict, regex: str | None = None) -> None:
        """Upstream's; also forgets parameters that were on their way to the policy."""
        with self._change:
            super().load(data, regex)
            self.pending_sync = self.pending_outs = self.pending_mets = None
            if self.model.fb is not None:
                self._goal_set = bool(jax.device_get(self.params[f"{FB}goal/value"]).any())
                self._frozen = bool(jax.device_get(self.params[f"{FB}frozen/value"]))
                self._choose_program()


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
