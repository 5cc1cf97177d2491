"""An eye on a run's rewards: one plain warning, once each, when one of them cannot teach the agent anything.

Pure bookkeeping: fed with shaped rows and the shaper's figures, it says sentences and keeps numbers for the log.
"""

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import elements
import numpy as np

from genreward_jax.methods import Term
from genreward_jax.shaping import Row

LAST = 32  # paid values that the spread is taken over
ENOUGH = 8  # of them before anything is said
EPISODES = 8  # whose share of the return is looked at
# Standard deviation by size of the values, below which their differences are rounding: a cosine near 1 is reduced in
# float64, but the latents come from a network in this type (float32: its eps is 1.2e-7, some ten operations deep).
NOISE = {"float32": 1e-6, "bfloat16": 1e-4}
CONSTANT = 0.01  # the same for r_FB: the printed objective settles at 1/(1 - discount) with a spread of 0.4 %
SHARE = 1e-3  # of an episode's reward by size
TRANSITIONS = 16  # a batch, below which FB's `measure` has too few pairs of independent states
WAITING = 0.25  # of the rows that an environment may hold back


class Watch:
    """Follows a run's rewards.

    Args:
        terms: The method's summands.
        say: Told each warning, once.
        score: The command that judges these rewards before a run, named in warnings; '' where there is none.
        dtype: Of the bridge's models.
        max_pending_rows: As the shaper's.
        wait: As the shaper's: rewards are waited for on purpose.
    """

    def __init__(
        self,
        terms: list[Term],
        say: Callable[[str], None] = print,
        *,
        score: str = "",
        dtype: str = "float32",
        max_pending_rows: int = 256,
        wait: bool = False,
    ) -> None:
        self.terms, self.say, self.score = terms, say, score
        self.noise = NOISE.get(dtype, NOISE["float32"])
        self.max_pending_rows, self.wait = max_pending_rows, wait
        self.in_agent = {term.name: term.reward_class().runs_in == "trainer" for term in terms}
        self.values: dict[str, deque[float]] = {term.name: deque(maxlen=LAST) for term in terms}
        self.warnings: dict[str, str] = {}  # what was said, by what it is about
        self.episodes: deque[tuple[float, float]] = deque(maxlen=EPISODES)  # (added, total) by absolute value
        self._running: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._was_waiting = False

    def add(self, row: Row, worker: int) -> None:
        """Takes a row on its way into the replay."""
        for name, values in self.values.items():
            if np.isfinite(row[f"reward_{name}"]):
                values.append(float(row[f"reward_{name}"]))
        if row["is_first"]:
            self._running[worker] = [0.0, 0.0]
        running = self._running[worker]
        running[0] += abs(float(row["reward"]) - float(row["reward_env"]))
        running[1] += abs(float(row["reward"]))
        if row["is_last"]:
            self.episodes.append((running[0], running[1]))

    def stats(self) -> dict[str, float]:
        """``<name>_spread``: standard deviation of the last paid values of each reward that has paid two or more."""
        return {f"{name}_spread": float(np.std(v)) for name, v in self.values.items() if len(v) > 1}

    def check(self, shaper: dict[str, Any]) -> None:
        """Says what has become true since the last time; ``shaper`` is :meth:`RewardShaper.stats`."""
        for term in self.terms:
            self._check_spread(term.name)
        self._check_share()
        self._check_late(shaper)

    def check_fb(self, metrics: dict[str, float]) -> None:
        """Says what FB's own figures show; ``metrics`` are the train steps' means.

        That `measure` learns from hardly anything; or that r_FB sits at a constant before it is normalised, which hides
        that from :meth:`check`: rounding, divided by its own spread, is noise of size 1.
        """
        mean, spread = abs(metrics.get("fb/reward_mean", 0.0)), metrics.get("fb/reward_spread", np.inf)
        paid = [name for name in self.values if self.in_agent[name] and len(self.values[name]) >= ENOUGH]
        if paid and spread <= CONSTANT * mean:
            self._warn(
                f"{paid[0]} constant",
                f"The reward '{paid[0]}' sits at a constant before it is normalised (mean {mean:.7g}, spread "
                f"{spread:.2g} over the replay), so what is paid is noise{self._see()}; choose another --fb.objective "
                f"or goal (GOAL=), or leave it out with METHOD=.",
            )
        count = metrics.get("fb/transitions")
        if "fb/product_next" in metrics and count is not None and count < TRANSITIONS:  # a term of `measure` alone
            self._warn(
                "transitions",
                f"FB learns from {count:.1f} transitions a batch that have the embeddings they need, and {TRANSITIONS} "
                f"are few; lower --fb.dino_every or raise --batch_size.",
            )

    def _check_spread(self, name: str) -> None:
        values = np.asarray(self.values[name], np.float64)
        if len(values) < ENOUGH:
            return
        size, spread = float(np.abs(values).max()), float(values.std())
        said = f"over its last {len(values)} values (mean {values.mean():.7g}, spread {spread:.2g})"
        if self.in_agent[name] and spread <= CONSTANT * size:
            self._warn(
                f"{name} constant",
                f"The reward '{name}' sits at a constant {said}, so it cannot tell one action from another"
                f"{self._see()}; choose another --fb.objective, or leave it out with METHOD=.",
            )
        elif not self.in_agent[name] and spread <= self.noise * size:
            self._warn(
                f"{name} noise",
                f"The reward '{name}' does not vary beyond rounding {said}, so it teaches the agent nothing"
                f"{self._see()}; give another goal video (GOAL=) or model (MODEL=).",
            )

    def _check_share(self) -> None:
        if not self.terms or len(self.episodes) < EPISODES:
            return
        if not any(self.values.values()):
            waiting = [term for term in self.terms if not self.in_agent[term.name]]
            if waiting:  # the agent's own are paid later in the run, which is no fault
                interval = waiting[0].settings.get("interval", 0)
                self._warn(
                    "nothing paid",
                    f"The reward '{waiting[0].name}' has paid nothing in {EPISODES} episodes: it is paid every "
                    f"{interval} steps and they are shorter; lower --reward.interval.",
                )
            return
        added, total = (sum(column) for column in zip(*self.episodes, strict=True))
        if total > 0 and 0 < added < SHARE * total:
            weighed = " and ".join(f"{term.name} x {term.weight:g}" for term in self.terms)
            flags = " and ".join(dict.fromkeys(f"--{term.weight_flag}" for term in self.terms if term.weight_flag))
            self._warn(
                "share",
                f"The added rewards ({weighed}) are {added / total:.2g} of the last {len(self.episodes)} episodes' "
                f"reward by size, under {SHARE:.1%}: the agent will hardly notice them{self._see()}; raise "
                f"{flags or 'its weight in the method'}, or ENV_REWARD=sparse.",
            )

    def _check_late(self, shaper: dict[str, Any]) -> None:
        """Rows that wait twice in a row: at a single look a reward may have been asked for a moment ago."""
        waiting = shaper["pending"] > WAITING * self.max_pending_rows
        if waiting and self._was_waiting and not self.wait and not shaper["waited_s"]:
            self._warn(
                "late",
                f"Rewards are late: {shaper['pending']:.0f} rows wait for theirs, which takes "
                f"{shaper['latency_ms'] / 1e3:.2g} s (median); at {self.max_pending_rows} an environment the loop "
                f"waits (--reward.max_pending_rows). A smaller model (MODEL=) or --bridge.device cuda is quicker.",
            )
        self._was_waiting = waiting

    def _see(self) -> str:
        return f" (`{self.score}` shows what it tells apart)" if self.score else ""

    def _warn(self, about: str, text: str) -> None:
        if about not in self.warnings:
            self.warnings[about] = text
            self.say(f"WARNING: {text}")


def watch_of(config: elements.Config, terms: list[Term], say: Callable[[str], None]) -> Watch:
    """The eye on a run's rewards, with the command that judges them on its task."""
    suite, _, task = config.task.partition("_")
    return Watch(
        terms,
        say,
        score=f"make score TASK={task}" if suite == "metaworld" else "",
        dtype=config.model.dtype,
        max_pending_rows=int(config.reward.max_pending_rows),
        wait=bool(config.run.deterministic),
    )
