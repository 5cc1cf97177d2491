"""The forward-backward side of the outer agent: its goal, its freezing, and its values outside of a policy call."""

import contextlib
import threading
from collections.abc import Callable, Mapping

import embodied.jax.transform
import jax
import ninjax as nj
import numpy as np
from embodied.jax import internal

from dreamerv3_patches.model import COPY, FB
from genreward_jax import frame_states
from genreward_jax.errors import UserError

CHUNK = 256  # rows in one call of fb_values' program


class ForwardBackwardSide:
    """What :class:`dreamerv3_patches.agent.Agent` has beside upstream's; reads and sets that one's parameters.

    The agent gives ``model``, ``params`` and upstream's locks, meshes and shardings; ``_change``, which excludes a
    train step; and ``_choose_program``.
    """

    _change: threading.RLock

    def _begin_fb(self) -> None:
        self._goal_set = self._frozen = False
        self.embed_state: Callable[[np.ndarray], np.ndarray] | None = None  # uint8 (N, H, W, 3) to float32 (N, n)
        params, rest = self.train_params_sharding, self.train_mirrored
        program = lambda function, inputs, outputs, **more: embodied.jax.transform.apply(
            nj.pure(function), self.train_mesh, (params, *inputs), outputs, **more
        )
        self._drift = program(self.model.drift, [rest] * 2, (rest,), single_output=True)
        self._values = program(self.model.values, [rest] * 6, (rest, rest))

    @property
    def fb_frozen(self) -> bool:
        """Whether FB's training is over; True without FB."""
        return self.model.fb is None or self._frozen

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
