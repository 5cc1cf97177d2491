"""The reward shaper: rows of the environment in, rows for the replay out, with eq. 10 in their reward.

A plain filter that knows no driver, no agent and no replay: the training loop, upstream's parallel actor and offline
tools all push rows through it. Rows leave in the order in which they came, each environment in its own queue; a row
whose reward is late holds those behind it back, up to a limit, then the pusher waits.
"""

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from genreward_jax.errors import UserError
from genreward_jax.gathering import Collector
from genreward_jax.methods import Term
from genreward_jax.rewards.base import Payment, Reward, Window
from genreward_jax.windows import resolved

Row = dict[str, np.ndarray]
KEPT_FRAME = "log/reward_frame"  # upstream's replay drops what is named log/


@dataclass
class _Pending:
    """A row on its way to the replay, with the answers it waits for."""

    row: Row
    answers: list[tuple[int, "Future[Payment]"]]  # index of the term, its answer
    notes: dict[str, Future]  # keys that the row gets beside its rewards, from models that are asked about every row

    @property
    def late(self) -> list[Future]:
        """All that it waits for."""
        return [*(answer for _, answer in self.answers), *self.notes.values()]


class _Worker:
    """State of one environment: the step in its episode, the row before, what is gathered, what is pending."""

    def __init__(self, collectors: list[Collector]) -> None:
        self.step = 0
        self.previous: Row | None = None
        self.collectors = collectors
        self.pending: deque[_Pending] = deque()


class RewardShaper:
    """Adds a method's rewards to rows.

    Args:
        terms: The method's summands; none leaves every reward as it is.
        pay: Asks the bridge: ``pay(name, window)`` gives a future Payment. Not called for rewards of the trainer.
        frame_count: Frames sampled from a window, where a reward has no number of its own.
        frame_of: ``frame_of(worker, slot)`` fetches (and frees) the frame in a shared-memory slot; None when rows
            carry frames of the wanted size in ``image``.
        max_pending_rows: Rows an environment may hold back before :meth:`push` waits for the oldest answer.
        wait: Wait for every answer at once, so that a run does not depend on how fast the bridge is.
        tell: ``tell(name, "observe" | "state" | "load", argument)`` reaches a reward with a memory in the bridge.
        goal: Given to rewards that run here; the bridge gives its own theirs.
        annotate: ``annotate(row, step)`` gives more keys for a row that is ``step`` steps from its episode's reset:
            values, or futures of values, for which the row waits as for a late reward. The same keys for every row.
        keep_frames: Leave each frame that was fetched from a slot on its row, as ``log/reward_frame``.
        say: Told, once, when the loop had to wait.

    Rows need ``is_first``, ``reward``, ``image`` and ``action``, and have ``is_last``; rows that leave have
    ``reward`` (eq. 10), ``reward_env`` and one ``reward_<name>`` for each term: the unweighted value, NaN where the
    term paid nothing. Policy outputs that only a reward reads, and ``frame_slot``, are taken off.
    """

    def __init__(
        self,
        terms: list[Term],
        pay: Callable[[str, Window], "Future[Payment]"] | None = None,
        *,
        frame_count: int = 16,
        frame_of: Callable[[int, int], np.ndarray] | None = None,
        max_pending_rows: int = 256,
        wait: bool = False,
        tell: Callable[[str, str, Any], Future] | None = None,
        goal: Any = None,
        annotate: Callable[[Row, int], dict[str, Any]] = lambda row, step: {},
        keep_frames: bool = False,
        say: Callable[[str], None] = print,
    ) -> None:
        self.terms = terms
        self.rewards: list[Reward] = [
            term.reward_class()(goal if term.reward_class().runs_in == "trainer" else None, **term.settings)
            for term in terms
        ]
        self.tell = tell
        self.has_memory = [type(reward).observe is not Reward.observe for reward in self.rewards]
        self.diagnostics: dict[str, float] = {}
        self.schedules = [resolved(reward.schedule(), frame_count) for reward in self.rewards]
        self.pay = pay
        self.annotate = annotate
        self.keep_frames = keep_frames
        self.frame_of = frame_of
        self.max_pending_rows = max_pending_rows
        self.wait = wait
        self.say = say
        self.outputs = sorted({key for reward in self.rewards for key in reward.outputs})
        self.workers: dict[int, _Worker] = defaultdict(
            lambda: _Worker([Collector(*both) for both in zip(self.rewards, self.schedules, strict=True)])
        )
        self.waited_s = 0.0
        self.latency_ms: deque[float] = deque(maxlen=256)
        self.paid = 0
        self._said_waiting = False

    def push(self, worker: int, row: Row) -> list[Row]:
        """Takes the next row of an environment; gives the rows of that environment that are ready, in order.

        Raises:
            UserError: a reward answered with a number that is not finite, or the bridge failed for good.
        """
        state = self.workers[worker]
        row = {key: np.asarray(value) for key, value in row.items()}
        if row["is_first"]:
            state.step = 0
            state.previous = None
            [collector.reset() for collector in state.collectors]
        else:
            state.step += 1
        answers = self._ask(worker, state, row)
        state.previous = row
        notes = self.annotate(row, state.step)
        at_once = {key: value for key, value in notes.items() if not isinstance(value, Future)}
        late = {key: value for key, value in notes.items() if isinstance(value, Future)}
        state.pending.append(_Pending({**self._strip(row), **at_once}, answers, late))
        if self.wait:
            [future.result() for future in state.pending[-1].late]
        elif len(state.pending) > self.max_pending_rows:
            self._wait_for_oldest(worker, state)
        return self._release(state)

    def act(self, worker: int, action: np.ndarray) -> None:
        """Says which action was taken at the row last pushed, for a loop that pushes a row before it acts on it."""
        if self.workers[worker].previous is not None:
            self.workers[worker].previous["action"] = np.asarray(action)

    def flush(self) -> list[tuple[int, Row]]:
        """Waits for every answer; gives all rows left as (worker, row), each environment's in order."""
        ready = []
        for worker, state in self.workers.items():
            for pending in state.pending:
                [future.result() for future in pending.late]
            ready += [(worker, row) for row in self._release(state)]
        return ready

    def stats(self) -> dict[str, float]:
        """Median latency of the last answers in ms, rows pending, seconds waited, rows paid; last diagnostics."""
        return {
            "latency_ms": float(np.median(self.latency_ms)) if self.latency_ms else 0.0,
            "pending": float(sum(len(state.pending) for state in self.workers.values())),
            "waited_s": self.waited_s,
            "paid": float(self.paid),
            **self.diagnostics,
        }

    def state(self) -> dict[str, np.ndarray]:
        """Memories of the trainer's own rewards and counters, for a checkpoint."""
        state = {"paid": np.asarray(self.paid)}
        for index, term in enumerate(self.terms):
            if self.has_memory[index]:
                memory = self._memory(index, "state")
                state |= {f"{term.name}/{key}": np.asarray(value) for key, value in memory.items()}
        return state

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Puts back what :meth:`state` gave."""
        self.paid = int(state["paid"])
        for index, term in enumerate(self.terms):
            if self.has_memory[index]:
                prefix = f"{term.name}/"
                own = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
                self._memory(index, "load", own)

    def _memory(self, index: int, method: str, argument: Any = None) -> Any:
        """Calls a method of a reward's memory, here or in the bridge, and gives its answer."""
        if self.rewards[index].runs_in == "bridge":
            return self.tell(self.terms[index].name, method, argument).result()
        function = getattr(self.rewards[index], method)
        return function() if argument is None else function(argument)

    def _ask(self, worker: int, state: _Worker, row: Row) -> list[tuple[int, "Future[Payment]"]]:
        """Gathers the row for every term and asks those that pay it."""
        self._gather_frame(worker, state, row)
        if state.previous is None:
            return []
        answers = []
        for index, collector in enumerate(state.collectors):
            collector.add(row, state.previous)
            if collector.due(state.step, bool(row["is_last"])):
                window = collector.cut(state.step, bool(row["is_last"]))
                if window is not None:
                    answers.append((index, self._answer(index, window)))
        return answers

    def _gather_frame(self, worker: int, state: _Worker, row: Row) -> None:
        """Fetches the row's frame, which also frees its slot, and keeps it for the terms that will look at it."""
        frame = self._frame(worker, row)
        if frame is None:
            return
        if self.keep_frames and "frame_slot" in row:
            row[KEPT_FRAME] = frame
        for collector in state.collectors:
            collector.see(state.step, frame)

    def _frame(self, worker: int, row: Row) -> np.ndarray | None:
        if "frame_slot" not in row:
            return row.get("image")  # some environments show none, and no reward that wants frames is used with them
        slot = int(row["frame_slot"])
        return self.frame_of(worker, slot) if slot >= 0 and self.frame_of else None

    def _answer(self, index: int, window: Window) -> "Future[Payment]":
        if self.rewards[index].runs_in == "bridge":
            asked = time.perf_counter()
            answer = self.pay(self.terms[index].name, window)
            answer.add_done_callback(lambda _: self.latency_ms.append(1000 * (time.perf_counter() - asked)))
            return answer
        future: Future[Payment] = Future()
        future.set_result(self.rewards[index](window, None))
        return future

    def _strip(self, row: Row) -> Row:
        """The row as the replay keeps it, before its rewards are known."""
        row = {key: value for key, value in row.items() if key not in self.outputs and key != "frame_slot"}
        row["reward_env"] = np.float32(row["reward"])
        for term in self.terms:
            row[f"reward_{term.name}"] = np.float32(np.nan)
        return row

    def _release(self, state: _Worker) -> list[Row]:
        ready = []
        while state.pending and all(future.done() for future in state.pending[0].late):
            pending = state.pending.popleft()
            pending.row |= {key: note.result() for key, note in pending.notes.items()}
            self._add_rewards(pending)
            self._observe(pending.row)
            ready.append(pending.row)
        return ready

    def _add_rewards(self, pending: _Pending) -> None:
        """Eq. 10: the environment's reward plus every paid term's weighted value."""
        total = float(pending.row["reward_env"])
        for index, answer in pending.answers:
            payment, term = answer.result(), self.terms[index]
            if not payment.values:
                continue
            value = float(payment.values[-1])
            if not math.isfinite(value):
                raise UserError(
                    f"The reward '{term.name}' gave {value}, which would poison the replay; look at the goal video "
                    f"and the models, or leave it out with METHOD=none."
                )
            pending.row[f"reward_{term.name}"] = np.float32(value)
            total += term.weight * value
            self.paid += 1
            self.diagnostics |= {f"{term.name}/{key}": float(number) for key, number in payment.diagnostics.items()}
        if not math.isfinite(total):
            raise UserError(f"The weighted rewards of a row add up to {total}; look at the weights under --reward.")
        pending.row["reward"] = np.float32(total)

    def _observe(self, row: Row) -> None:
        """Shows the finished row to rewards with a memory; the bridge's see rows in the order in which they leave."""
        for index, reward in enumerate(self.rewards):
            if self.has_memory[index] and reward.runs_in == "bridge":
                self.tell(self.terms[index].name, "observe", [row])
            elif self.has_memory[index]:
                reward.observe([row])

    def _wait_for_oldest(self, worker: int, state: _Worker) -> None:
        if not self._said_waiting:
            self.say(
                f"WARNING: Environment {worker} holds {len(state.pending)} rows for a late reward "
                f"(--reward.max_pending_rows): the loop now waits for rewards. A smaller model (MODEL=) or "
                f"--bridge.device cuda is quicker."
            )
            self._said_waiting = True
        start = time.perf_counter()
        [future.result() for future in state.pending[0].late]
        self.waited_s += time.perf_counter() - start


def reward_rows(terms: list[Term], length: int, flag: str = "--env.metaworld.length") -> None:
    """Refuses an interval that no episode reaches; ``flag`` is what says how long those are."""
    for term in terms:
        schedule = term.reward_class()(None, **term.settings).schedule()
        if schedule.kind == "every" and schedule.interval > length:
            raise UserError(
                f"The reward '{term.name}' is paid every {schedule.interval} steps but an episode has {length}: "
                f"lower --reward.interval or raise {flag}."
            )


def shaped_share(rows: list[dict[str, Any]]) -> float:
    """Which share of an episode's return the added rewards are, by absolute value (0 for an empty episode)."""
    added = sum(abs(float(row["reward"]) - float(row["reward_env"])) for row in rows)
    total = sum(abs(float(row["reward"])) for row in rows)
    return added / total if total else 0.0
