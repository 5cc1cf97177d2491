"""Item 2: a train step and a policy call, upstream with repairs only against ours, with FB off, learning and frozen."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import elements
import embodied
import numpy as np

from genreward_jax import config as config_lib
from genreward_jax import parts
from genreward_jax.bench import floor, memory
from genreward_jax.bench.figures import Figure, Item, Ratio, in_turns, quotients
from genreward_jax.bench.scale import TASK, Scale
from genreward_jax.device import prepare_jax

UPSTREAM, OURS = "upstream with repairs only", "ours"
LEARNING, FROZEN, PLUS = "ours, FB learning", "ours, FB frozen", "ours, FB of genreward_plus learning"
PLAIN = {"patches.fast_convs": False}  # every speed-up of the train step switched off
GOAL = 0.985
CALLS = 50  # policy calls in a round


def configuration(preset: str, method: str, flags: list[str], **changes: Any) -> elements.Config:
    """A preset's agent with that method; ``changes`` are flags by full name."""
    argv = ["--preset", preset, "--task", TASK, *flags, "--method", method, "--logdir", "unused"]
    return prepare_jax(config_lib.parse(argv).update(changes), bridge=False)


class Stepper:
    """An agent that is compiled, with a batch of noise to train on and an observation to act on.

    Args:
        config: Of the run whose agent this is.
        freeze: Freeze FB.
    """

    def __init__(self, config: elements.Config, freeze: bool = False) -> None:
        terms = parts.check(config)
        self.agent = agent = parts.make_agent(config, terms)
        if agent.model.fb is not None:
            agent.set_goal(np.random.default_rng(1).normal(size=agent.params["fb/goal/value"].shape))
        rng, length = np.random.default_rng(0), config.batch_length + config.replay_context
        data = {k: np.zeros((config.batch_size, length, *s.shape), s.dtype) for k, s in agent.spaces.items()}
        for key, value in data.items():
            if value.dtype == np.uint8 and key != "stepid":
                data[key] = rng.integers(0, 256, value.shape, np.uint8)
            elif key in agent.act_space:
                data[key] = rng.uniform(-1, 1, value.shape).astype(value.dtype)
            elif key == "dino_valid":
                data[key] = np.ones_like(value)
        self.batches: Iterator = iter(agent.stream(embodied.streams.Stateless(lambda: dict(data)), prefetch=False))
        self.carry, self.acting = agent.init_train(config.batch_size), agent.init_policy(config.run.envs)
        obs = {k: np.zeros((config.run.envs, *s.shape), s.dtype) for k, s in agent.obs_space.items()}
        self.obs = {**obs, "image": rng.integers(0, 256, obs["image"].shape, np.uint8)}
        if freeze:
            agent.freeze_fb()
        for _ in range(2):  # compile, and let the parameters reach the policy
            self.train()
            self.act()

    def train(self) -> float:
        """Seconds of one train step, waited for."""
        data = next(self.batches)
        begun = time.perf_counter()
        self.carry, _, self.metrics = self.agent.train(self.carry, data)
        self.agent.wait()
        return time.perf_counter() - begun

    def act(self) -> float:
        """Seconds of one policy call."""
        begun = time.perf_counter()
        self.acting, _, _ = self.agent.policy(self.acting, self.obs)
        return time.perf_counter() - begun

    def train_cost(self) -> tuple[float, float]:
        """Operations and bytes of a train step."""
        return self.agent.train_cost()

    def policy_cost(self) -> tuple[float, float]:
        """Operations and bytes of a policy call."""
        return self.agent.policy_cost(self.acting, self.obs)

    def peak(self) -> float:
        """Largest memory of this process so far, in bytes."""
        return memory.peak(os.getpid())

    def losses(self) -> dict[str, float]:
        """Losses of the last train step but one, by name."""
        return {key: float(value) for key, value in self.metrics.items() if key.startswith("loss/")}

    def median(self, what: str, calls: int) -> Callable[[], float]:
        """Measures that many calls of ``train`` or ``act``: their median in ms."""
        return lambda: 1e3 * float(np.median([getattr(self, what)() for _ in range(calls)]))


def steppers(
    variants: dict[str, elements.Config], frozen: tuple[str, ...], say: Callable[[str], None]
) -> dict[str, Stepper]:
    """The variants; the program of each is compiled before the next one's switches are set."""
    made = {}
    for name, config in variants.items():
        say(f"compiling '{name}'")
        made[name] = Stepper(config, freeze=name in frozen)
    return made


def measure(scale: Scale, flags: list[str], say: Callable[[str], None], out: Path) -> Item:
    """Milliseconds of train step and policy call, medians of a round, variants in turns."""
    item = Item("one train step and one policy call")
    methods = {OURS: "none", FROZEN: "genreward"}  # item 1 has compiled both, where it was before this one
    methods |= {} if scale.name == "quick" else {UPSTREAM: "none", LEARNING: "genreward"}
    methods |= {PLUS: "genreward_plus"} if scale.name == "full" else {}
    config = lambda name: configuration(scale.preset, methods[name], flags, **(PLAIN if name == UPSTREAM else {}))
    made = steppers({name: config(name) for name in methods}, (FROZEN,), say)
    best = floor.Best.measured(config(OURS).jax.compute_dtype, scale.name == "quick")
    for what, calls in (("train", scale.steps), ("act", CALLS)):
        found = in_turns({name: one.median(what, calls) for name, one in made.items()}, scale.step_rounds, say)
        title = {"train": "train step", "act": "policy call"}[what]
        item.figures += [Figure(f"{title}, {name}", "ms", values) for name, values in found.items()]
        pairs = [(OURS, UPSTREAM, None), (FROZEN, UPSTREAM, GOAL), (FROZEN, OURS, GOAL)]
        pairs += [(name, OURS, None) for name in (LEARNING, PLUS)]
        cost = made[OURS].train_cost() if what == "train" else made[OURS].policy_cost()
        item.figures.append(best.figure(f"{title}, {OURS}", *cost))
        for one, other, goal in pairs:
            if one in found and other in found:
                ratio = quotients(found[other], found[one])
                item.figures.append(Ratio(f"{title}, speed of '{one}' by '{other}'", "", ratio, goal=goal))
    item.notes.append("a batch of noise; the preset's sizes; goal: FB frozen costs 1.5 % at most")
    item.notes.append(floor.NOTE)
    return item
