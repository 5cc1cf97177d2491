"""What a run tells and draws: the block before the start, the one at the end, videos and the learning curve."""

import multiprocessing
import os
import signal
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import elements
import numpy as np

from genreward_jax import loggers, parts
from genreward_jax.errors import UserError
from genreward_jax.evaluation.episodes import Episode
from genreward_jax.progress import amount, block, clock
from genreward_jax.rewarding import Rewarding

# Seconds of a train step and of an environment step with its policy call, measured on 2 cores (docs/performance.md).
MEASURED = {"cpu": (0.40, 0.02), "smoke": (0.10, 0.02)}


def check_goal_source(config: elements.Config) -> None:
    """Refuses a goal video that cannot be read, before anything is made."""
    if config.goal.source != "expert":
        from genreward_jax.video import read_video

        read_video(config.goal.source)


def estimate(config: elements.Config, steps: int) -> str:
    """How long ``steps`` more steps take, as far as that was ever measured."""
    if config.preset not in MEASURED or config.jax.platform != "cpu":
        return "unknown here before it runs; the bar will tell"
    train_s, step_s = MEASURED[config.preset]
    updates = steps * config.run.train_ratio / (config.batch_size * config.batch_length)
    return f"about {clock(updates * train_s + steps * step_s + 60)} (measured on 2 cores; others differ)"


def start_block(config: elements.Config, rewarding: Rewarding, agent: Any, started_at: int) -> str:
    """Task, method, goal, models, device, memory, disk and time, before the start."""
    suite, task = parts.split_task(config.task)
    steps = int(config.run.steps) - started_at
    rows = min(int(config.replay.size), int(config.run.steps))
    memory = rows * parts.row_bytes(config)
    env = config.env[suite]
    lines = [
        ("task", f"{task} ({suite}), {env.reward} reward, {env.length} steps an episode, {env.quality} rendering"),
        ("method", f"{config.method}{''.join(f', {t.name} x {t.weight:g}' for t in rewarding.terms)}"),
        ("goal", _goal_line(rewarding)),
        ("models", _models_line(rewarding)),
        ("device", f"{config.jax.platform} ({os.cpu_count()} cores), {config.run.envs} environment(s)"),
        ("agent", f"DreamerV3, preset {config.preset}, batch {config.batch_size}x{config.batch_length}"),
        ("replay", f"up to {amount(memory)} of memory, about {amount(0.5 * memory)} of disk, for {rows:,} steps"),
        ("run", f"{config.logdir}{f' (continued at step {started_at:,})' if started_at else ''}"),
        ("time", f"{estimate(config, steps)} for {steps:,} steps"),
    ]
    return "\n" + block(lines) + "\n"


def _goal_line(rewarding: Rewarding) -> str:
    text = rewarding.goal_source
    if rewarding.goal is not None:
        text += f"; key frame {rewarding.goal.key_index + 1} of {len(rewarding.goal.video)}"
    return text


def _models_line(rewarding: Rewarding) -> str:
    if rewarding.bridge is None:
        return "none needed"
    info = rewarding.bridge.describe()
    text = f"{info['family']} on {info['device']}, {info['dtype']}, frames of {rewarding.bridge.frame_size} pixels"
    if not info.get("trained", True):
        text += "; RANDOM weights, so the reward's values mean nothing yet: they show that the line works"
    return text


def end_block(run: Any, stopped: str, seconds: float) -> str:
    """What the run reached and where its pictures are."""
    folder, step = Path(run.config.logdir), int(run.step)
    evaluations = [row for row in loggers.read_scores(folder) if "eval/score" in row]
    stats = run.rewarding.shaper.stats()
    lines = [("steps", f"{step:,} environment steps, {int(run.updates):,} train steps in {clock(seconds)}")]
    if evaluations:
        last = evaluations[-1]
        lines.append(
            (
                "evaluation",
                f"return {last['eval/score']:.1f}, success {last['eval/success']:.0%} over "
                f"{last['eval/episodes']:.0f} episodes at step {last['step']:,}",
            )
        )
    if run.rewarding.terms:
        lines.append(("rewards", f"{stats['paid']:.0f} paid, the loop waited {stats['waited_s']:.1f} s for them"))
    names = ("videos/episode_beside_goal.mp4", "plots/learning_curve.png", "goal/key_frame.png")
    lines += [("look at", str(folder / name)) for name in names if (folder / name).exists()]
    again = "the same command goes on from here" if stopped or step < run.config.run.steps else "raise STEPS= to go on"
    title = f"Stopped by {stopped} and saved; {again}." if stopped else f"Done; {again}."
    return f"\n{title}\n{block(lines)}\n"


class Artist:
    """Draws in a process of its own: video encoding and Matplotlib neither hold up training nor fork beside JAX."""

    def __init__(self) -> None:
        self.pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_ignore_signals)
        self.work: list[Future] = []

    def draw(self, folder: Path, config: elements.Config, played: list[Episode], goal: np.ndarray | None) -> None:
        """Asks for the learning curve and the first filmed episode beside the goal video; returns at once."""
        _, task = parts.split_task(config.task)
        title = f"{task}, {config.env.metaworld.reward} reward, {config.method}"
        caption = f"seed {config.seed}, preset {config.preset}, {config.jax.platform}"
        filmed = [np.stack(episode.frames) for episode in played if episode.frames]
        shown = filmed[0] if filmed and goal is not None else None
        self.work.append(self.pool.submit(_draw, str(folder), title, caption, goal, shown))

    def close(self) -> None:
        """Waits for what was asked; raises what went wrong in it."""
        try:
            [work.result() for work in self.work]
        finally:
            self.pool.shutdown()


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # the trainer closes it
        signal.signal(number, signal.SIG_IGN)


def _draw(folder: str, title: str, caption: str, goal: np.ndarray | None, episode: np.ndarray | None) -> None:
    from genreward_jax.figures.beside import beside
    from genreward_jax.figures.curves import learning_curve
    from genreward_jax.video import write_video

    path = Path(folder)
    learning_curve(path / "plots" / "learning_curve.png", curve_rows(path), title=title, caption=caption)
    if episode is not None:
        write_video(path / "videos" / "episode_beside_goal.mp4", beside(goal, episode), 16)


def curve_rows(folder: Path) -> list[dict[str, Any]]:
    """A run's scores as the learning curve wants them."""
    rows = []
    for row in loggers.read_scores(folder):
        for kind in ("eval", "episode"):
            if f"{kind}/score" in row:
                rows.append(
                    {
                        "step": row["step"],
                        "score": row[f"{kind}/score"],
                        "success": row.get(f"{kind}/success", 0.0),
                        "kind": kind,
                    }
                )
    if not rows:
        raise UserError(f"{folder} has no scores yet.")
    return rows
