"""A reward as ``make score`` judges it: training's own shaper for what it would pay, sliding windows for the rest."""

import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from genreward_jax.errors import UserError
from genreward_jax.methods import Term, import_reward
from genreward_jax.rewards.base import Payment, Reward
from genreward_jax.score.context import Context
from genreward_jax.score.forward_backward import Networks, networks_for
from genreward_jax.score.trajectories import Trajectory, rows_of
from genreward_jax.score.values import Values
from genreward_jax.score.windows import sliding
from genreward_jax.shaping import RewardShaper

IN_FLIGHT = 16  # windows that the model process holds at once


class Scorer(Protocol):
    """One entry of REWARDS=; ``networks`` are those that it reads r_FB from, None before :meth:`prepare` or if none."""

    name: str
    about: str
    networks: Networks | None

    def check(self, context: Context) -> None:
        """Refuses what can be refused before episodes are drawn."""

    def prepare(self, context: Context) -> None:
        """Makes what it needs; may be slow, and says so."""

    def values(self, trajectory: Trajectory, task: str = "") -> Values:
        """Its judgement of an episode, for the goal of another task if one is named."""

    def cost(self, trajectory: Trajectory) -> float:
        """Milliseconds of reward computing for each environment step of a training run."""


@dataclass(frozen=True)
class DeclaredTerm(Term):
    """A term whose class was imported by the bridge process only: here stands what it declares."""

    declared: dict[str, Any] = field(default_factory=dict)

    def reward_class(self) -> type[Reward]:
        content = {name: self.declared[name] for name in ("runs_in", "needs", "wants_frames", "outputs")}
        content["schedule"] = lambda _: self.declared["schedule"]
        if self.declared["memory"]:
            content["observe"] = lambda _, rows: None
        return type("Declared", (Reward,), content)


class TermScorer:
    """A method's terms on episodes, weighed and paid as in training.

    Args:
        name: In REWARDS= and in every file.
        terms: One, or a method's.
        objective: Of the forward-backward networks that a term reads; '' where none does.
        mixed: Train those also on noisy and stopping experts.
        normalised: Whether training would divide r_FB by its spread.
        summed: A whole method: values are the terms' weighted sum. Else they are the one term's own.
    """

    def __init__(
        self,
        name: str,
        terms: list[Term],
        *,
        objective: str = "",
        mixed: bool = False,
        normalised: bool = False,
        summed: bool = False,
    ) -> None:
        self.name, self.about = name, ""
        self._terms, self._summed = terms, summed
        self._objective, self._mixed, self._normalised = objective, mixed, normalised
        self.networks: Networks | None = None
        self._task: str | None = None  # whose goal it is bound to
        self._shaper: RewardShaper | None = None

    @property
    def ours(self) -> bool:
        """Whether all of it is the project's own."""
        return all(term.ours for term in self._terms)

    @property
    def reads_networks(self) -> bool:
        """Whether a term is r_FB, of a run's forward-backward networks or of some that are trained for it."""
        return bool(self._objective)

    def trains(self, context: Context) -> str:
        """What it has to train before it can be scored, in words; '' for nothing."""
        if not self._objective or (self._objective == context.run_objective and not self._mixed):
            return ""
        return f"{self.name}: forward-backward networks ({self._objective}) on episodes of other seeds"

    def check(self, context: Context) -> None:
        """Makes a user's own class once: a mistake in it is said before minutes of drawing."""
        if not self.ours:
            self._context = context
            self._bind("")

    def prepare(self, context: Context) -> None:
        self._context = context
        self._bind("")
        if any(reward.outputs for reward in self._shaper.rewards):
            self.networks = networks_for(context, self._objective, self._mixed)
            self.about = "; ".join(filter(None, (self.about, self.networks.about)))

    def values(self, trajectory: Trajectory, task: str = "") -> Values:
        # One with a memory is made anew: else an episode's figures would depend on those that were judged before it.
        if task != self._task or any(self._shaper.has_memory):
            self._bind(task)
        frames = self._frames(trajectory)
        outputs = self._outputs(trajectory)
        trained = self._trained(trajectory, frames, outputs)
        steps = [self._every_step(i, trajectory, frames, outputs, trained[i]) for i in range(len(self._terms))]
        weights = np.array([term.weight for term in self._terms])[:, None]
        weighted = (weights * np.nan_to_num(trained)).sum(0)
        if not self._summed:
            return Values(trained[0], weighted.astype(np.float32), steps[0])
        paid = np.where(np.isfinite(trained).any(0), weighted, np.nan)
        held = (weights * np.stack([_held(values) for values in steps])).sum(0)
        return Values(paid.astype(np.float32), weighted.astype(np.float32), held.astype(np.float32))

    def cost(self, trajectory: Trajectory) -> float:
        if self._task:
            self._bind("")
        outputs = self._outputs(trajectory)
        # Frames that nothing has seen: bridge and cache would remember others.
        self._context.shifts += 1
        frames = np.roll(self._frames(trajectory), self._context.shifts, axis=2)
        spent = self._networks_time(trajectory, frames, outputs) if self.networks is not None else 0.0
        start = time.perf_counter()
        self._trained(trajectory, frames, outputs)
        return 1000 * (spent + time.perf_counter() - start) / trajectory.length

    def _networks_time(self, trajectory: Trajectory, frames: np.ndarray, outputs: dict[str, np.ndarray]) -> float:
        """Seconds for r_FB of as many rows as training pays of it."""
        paid = self._trained(trajectory, frames, outputs)
        count = max(np.isfinite(paid[i]).sum() for i, reward in enumerate(self._shaper.rewards) if reward.outputs)
        part = replace(trajectory, frames=trajectory.frames[:count], actions=trajectory.actions[:count])
        self._context.keeps = False
        try:
            self._outputs(part)  # compiles for this number of rows
            start = time.perf_counter()
            self._outputs(part)
            return time.perf_counter() - start
        finally:
            self._context.keeps = True

    # --- one goal at a time: a reward's model may be large ---

    def _bind(self, task: str) -> None:
        """Makes the rewards, here or in the bridge, for a task's goal."""
        from torch_bridge.client import RewardSpec

        context, goal = self._context, self._context.goal(task)
        for index, term in enumerate(self._terms):
            if isinstance(term, DeclaredTerm) or not term.ours:
                context.bridge.add_reward(self._key(term.name), RewardSpec(term.path, goal, dict(term.settings)))
                self._terms[index] = _declared(term, context.bridge.tell(self._key(term.name), "declares").result())
            elif term.reward_class().runs_in == "bridge":
                context.bridge.add_reward(self._key(term.name), RewardSpec(term.path, goal, dict(term.settings)))
        self._shaper = RewardShaper(
            self._terms,
            lambda name, window: context.bridge.pay(self._key(name), window),
            frame_count=context.frames,
            max_pending_rows=1 << 30,
            tell=lambda name, *what: context.bridge.tell(self._key(name), *what),
            goal=goal,
        )
        self._task = task

    def _key(self, term: str) -> str:
        return f"{self.name}/{term}"

    # --- an episode ---

    def _frames(self, trajectory: Trajectory) -> np.ndarray:
        wanted = any(reward.wants_frames for reward in self._shaper.rewards)
        return self._context.at_reward_size(trajectory) if wanted else trajectory.frames

    def _outputs(self, trajectory: Trajectory) -> dict[str, np.ndarray]:
        """What the agent's policy call would return at each row."""
        if self.networks is None:
            return {}
        self.networks.aim(self._task)  # others may have aimed them elsewhere
        values = self.networks.values(trajectory, self._normalised)
        return {"reward_fb": values, "reward_fb_paid": np.ones(len(values), bool)}

    def _trained(self, trajectory: Trajectory, frames: np.ndarray, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """Every term's value at the rows that training would pay, float32 (terms, T + 1), NaN elsewhere."""
        ready = []
        for t, row in enumerate(rows_of(trajectory, frames)):
            ready += self._shaper.push(0, {**row, **{key: values[t] for key, values in outputs.items()}})
        ready += [row for _, row in self._shaper.flush()]
        return np.array([[row[f"reward_{term.name}"] for row in ready] for term in self._terms], np.float32)

    def _every_step(self, index: int, trajectory, frames, outputs, trained: np.ndarray) -> np.ndarray:
        """One term's value at each step for which there is a window, float32 (T + 1,), NaN elsewhere."""
        reward, schedule = self._shaper.rewards[index], self._shaper.schedules[index]
        # One with a memory is not asked twice: its answer would not be the same.
        if self._shaper.has_memory[index] or (schedule.kind == "every" and schedule.interval == 1):
            return trained
        values = np.full(trajectory.length + 1, np.nan, np.float32)
        asked: deque[tuple[int, Any]] = deque()
        for step, window in sliding(reward, schedule, trajectory, frames, outputs):
            if reward.runs_in == "trainer":
                values[step] = _value(reward(window, None))
                continue
            asked.append((step, self._context.bridge.pay(self._key(self._terms[index].name), window)))
            if len(asked) > IN_FLIGHT:
                values[asked[0][0]] = _value(asked.popleft()[1].result())
        for step, answer in asked:
            values[step] = _value(answer.result())
        return values


def _value(payment: Payment) -> float:
    return payment.values[-1] if payment.values else np.nan


def _declared(term: Term, declared: dict[str, Any]) -> Term:
    """The term with what its class declares; one that runs in the loop is imported here after all.

    Raises:
        UserError: It reads what only the agent's networks return.
    """
    if declared["runs_in"] == "trainer":
        import_reward(term.path)
        return Term(term.name, term.path, term.weight, term.settings)
    unknown = set(declared["outputs"]) - {"reward_fb", "reward_fb_paid"}
    if unknown:
        raise UserError(f"The reward '{term.path}' reads {', '.join(sorted(unknown))}, which no network here returns.")
    return DeclaredTerm(term.name, term.path, term.weight, term.settings, declared=declared)


def _held(values: np.ndarray) -> np.ndarray:
    """Each value until the next one, NaN before the first: a window's reward stands until the next window's."""
    last = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(len(values)), -1))
    return np.where(last >= 0, values[last], np.nan)
