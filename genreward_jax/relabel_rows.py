"""The rows of a relabelled replay: rewards asked again through training's own shaper, and eq. 10 summed again."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import elements
import numpy as np

from genreward_jax import replay_files
from genreward_jax.errors import UserError
from genreward_jax.kept_frames import KeptFrames
from genreward_jax.methods import Term
from genreward_jax.rewarding import make_rewarding
from genreward_jax.shaping import RewardShaper, Row
from genreward_jax.suites import rows_show

Columns = dict[str, np.ndarray]
Values = dict[str, dict[str, np.ndarray]]  # chunk -> reward's name -> float32 (rows,), NaN where nothing is paid


@dataclass
class Recomputed:
    """What :func:`recompute` found.

    Attributes:
        values: Each chunk's new values, by the reward's name.
        memory: What a checkpoint keeps of rewards with a memory, as :meth:`RewardShaper.state` gives it.
        without_beginning: Rows of episodes whose beginning has left the replay.
    """

    values: Values = field(default_factory=lambda: defaultdict(dict))
    memory: dict[str, np.ndarray] = field(default_factory=dict)
    without_beginning: int = 0


@dataclass
class Tally:
    """Counts of what was and what is, chunk by chunk."""

    rows: int = 0
    sizes: np.ndarray = field(default_factory=lambda: np.zeros((2, 2)))  # before, after: added, total by size
    paid: dict[str, np.ndarray] = field(default_factory=lambda: defaultdict(lambda: np.zeros((2, 2))))  # count, sum

    def add(self, before: Columns, after: Columns) -> None:
        self.rows += len(after["reward"])
        for when, columns in enumerate((before, after)):
            reward, env = (columns[key].astype(np.float64) for key in ("reward", "reward_env"))
            self.sizes[when] += np.abs(reward - env).sum(), np.abs(reward).sum()
            for key in columns:
                if key.startswith("reward_") and key != "reward_env":
                    values = columns[key][np.isfinite(columns[key])].astype(np.float64)
                    self.paid[key.removeprefix("reward_")][when] += len(values), values.sum()

    def facts(self) -> dict[str, Any]:
        """Rows; each reward's number of paid rows and mean, and the share of the reward by size: [before, after]."""
        rewards = {}
        for name, ((n0, s0), (n1, s1)) in self.paid.items():
            means = [total / count if count else None for count, total in ((n0, s0), (n1, s1))]
            rewards[name] = {"paid": [int(n0), int(n1)], "mean": means}
        share = [float(added / total) if total else 0.0 for added, total in self.sizes]
        return {"rows": self.rows, "rewards": rewards, "share": share}


def sum_again(columns: Columns, terms: list[Term], values: dict[str, np.ndarray]) -> Columns:
    """A chunk with eq. 10 summed again: the environment's own reward plus each term's weighted value.

    Args:
        columns: The chunk; each term's ``reward_<name>`` is there or among ``values``.
        terms: The new method's summands, in order.
        values: New values by name, float32 (rows,), NaN where nothing is paid.

    Raises:
        UserError: The sum is not finite.
    """
    kept = {key: value for key, value in columns.items() if not key.startswith("reward_") or key == "reward_env"}
    total = columns["reward_env"].astype(np.float64)
    for term in terms:
        name = f"reward_{term.name}"
        kept[name] = values[term.name] if term.name in values else columns[name]
        total += term.weight * np.where(np.isnan(kept[name]), 0.0, kept[name].astype(np.float64))
    if not np.isfinite(total).all():
        raise UserError("The weighted rewards of a row do not add up to a number; look at the weights under --reward.")
    return {**kept, "reward": total.astype(np.float32)}


def recompute(
    config: elements.Config, terms: list[Term], run: Path, made: Path, files: list[Path], say: Callable[[str], None]
) -> Recomputed:
    """Asks rewards again about every row, in the order in which the rows were played.

    Args:
        config: The new configuration.
        terms: The rewards to ask.
        run: The old run directory, for frames that it kept.
        made: The new one; its goal is put there, and may lie there already.
        files: The replay's chunks.
        say: Told what takes a while.

    Raises:
        UserError: Frames are wanted that are not there, and whatever making the goal raises.
    """
    chains = replay_files.chains(files)
    rewarding = make_rewarding(config, terms, made, say)
    try:
        source = _Frames(config, terms, run, rewarding.bridge.frame_size)
        rewarding.goal.save(made / "goal")
        shaper = RewardShaper(
            terms,
            rewarding.bridge.pay,
            frame_count=config.reward.frames,
            frame_of=source.frame if source.kept else None,
            max_pending_rows=config.reward.max_pending_rows,
            tell=rewarding.bridge.tell,
            goal=rewarding.goal,
            say=lambda text: None,  # here nothing is late: there is nothing else to do than wait
        )
        names = ", ".join(term.name for term in terms)
        say(f"Asking for {names} again, over {sum(int(file.stem.split('-')[3]) for file in files):,} rows ...")
        found = Recomputed()
        for worker, chain in enumerate(chains):
            _push_chain(shaper, worker, chain, source, found)
        for _, row in shaper.flush():
            _put(found, row, terms)
        found.memory = {key: value for key, value in shaper.state().items() if key != "paid"}
        return found
    finally:
        rewarding.close()


class _Frames:
    """Where windows get their frames: the rows' own images, or what the run kept (``--replay.reward_frames``)."""

    def __init__(self, config: elements.Config, terms: list[Term], run: Path, size: int) -> None:
        self.chunk = ""
        self.kept: KeptFrames | None = None
        if not any(term.reward_class().wants_frames for term in terms) or rows_show(config, size):
            return
        self.kept = KeptFrames(run / "reward_frames")
        if self.kept.side != size:
            there = f"kept frames of {self.kept.side} pixels" if self.kept.side else "kept none"
            raise UserError(
                f"The model wants frames of {size} pixels, which the rows do not hold, and the run {there}: take a "
                f"model that wants the agent's own size, or train with --replay.reward_frames True."
            )

    def slot(self, row: int) -> int:
        """What stands for the frame of the current chunk's row, -1 for none."""
        return row if self.kept.has(self.chunk, row) else -1

    def frame(self, worker: int, slot: int) -> np.ndarray:
        return self.kept.get(self.chunk, slot)


def _push_chain(shaper: RewardShaper, worker: int, chain: list[Path], source: _Frames, found: Recomputed) -> None:
    begun = False  # the chain's first rows may belong to an episode whose beginning has left the replay
    for file in chain:
        columns, source.chunk = replay_files.read(file), replay_files.chunk_id(file)
        rows = len(columns["reward"])
        found.values[source.chunk] = {t.name: np.full(rows, np.nan, np.float32) for t in shaper.terms}
        # What the environment gave; not the agent's latents, which are most of a row.
        seen = {k: v for k, v in columns.items() if "/" not in k and not k.startswith("reward") and k != "stepid"}
        for index in range(rows):
            begun = begun or bool(columns["is_first"][index])
            if not begun:
                found.without_beginning += 1
                continue
            row: Row = {key: value[index] for key, value in seen.items()}
            row |= {"reward": columns["reward_env"][index], "at": (source.chunk, index)}
            if source.kept is not None:
                row["frame_slot"] = np.int32(source.slot(index))
            for ready in _push(shaper, worker, row):
                _put(found, ready, shaper.terms)


def _push(shaper: RewardShaper, worker: int, row: Row) -> list[Row]:
    try:
        return shaper.push(worker, row)
    except KeyError as error:
        raise UserError(
            f"A window lacks the frame of its step {error}: --replay.reward_frames was not on all the time, or other "
            f"--reward.interval and --reward.frames were sampled."
        ) from None


def _put(found: Recomputed, row: Row, terms: list[Term]) -> None:
    chunk, index = row["at"]
    for term in terms:
        found.values[str(chunk)][term.name][int(index)] = row[f"reward_{term.name}"]
