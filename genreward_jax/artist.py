"""What a run draws: learning curve and videos, in a process of its own.

Matplotlib and the video encoder neither hold up training there, nor start programs from a process that holds JAX's
threads.
"""

import multiprocessing
import signal
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import elements
import numpy as np

from genreward_jax import loggers, parts
from genreward_jax.evaluation.episodes import Episode
from genreward_jax.orphans import end_with_parent
from genreward_jax.stopping import FROM_TERMINAL

FPS = 16.0  # of episodes' videos: an agent step each


class Artist:
    """Draws what it is asked to, one thing after the other; :meth:`close` waits for the last."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(1, mp_context=context, initializer=_begin)
        self.work: list[Future] = []

    def run(self, folder: Path, config: elements.Config, played: list[Episode], goal: np.ndarray | None) -> None:
        """A run's learning curve, its first filmed episode, and that beside the goal video; returns at once."""
        suite, task = parts.split_task(config.task)
        title = f"{task}, {config.env[suite].reward} reward, {config.method}"
        caption = f"seed {config.seed}, preset {config.preset}, {config.jax.platform}"
        filmed = [np.stack(episode.frames) for episode in played if episode.frames]
        shown = filmed[0] if filmed else None
        self.work.append(self.pool.submit(_draw_run, str(folder), title, caption, goal, shown))

    def video(self, path: Path, episode: Episode) -> None:
        """A filmed episode as an mp4; returns at once."""
        self.work.append(self.pool.submit(_write_video, str(path), np.stack(episode.frames)))

    def close(self) -> list[BaseException]:
        """Waits for what was asked; gives what went wrong in it (a picture is no reason to lose a run)."""
        failures = [work.exception() for work in self.work]
        self.pool.shutdown()
        return [failure for failure in failures if failure is not None]


def _begin() -> None:
    """What the process does first: leaves signals to the trainer, and sees to it that it does not outlive it."""
    end_with_parent()
    for number in FROM_TERMINAL:  # sent to the whole group: the trainer closes it
        signal.signal(number, signal.SIG_IGN)


def _write_video(path: str, frames: np.ndarray) -> None:
    from genreward_jax.video import write_video

    write_video(path, frames, FPS)


def _draw_run(folder: str, title: str, caption: str, goal: np.ndarray | None, episode: np.ndarray | None) -> None:
    from genreward_jax.figures.beside import beside
    from genreward_jax.figures.curves import learning_curve

    path = Path(folder)
    learning_curve(path / "plots" / "learning_curve.png", curve_rows(path), title=title, caption=caption)
    if episode is not None:
        _write_video(str(path / "videos" / "episode.mp4"), episode)
    if episode is not None and goal is not None:
        _write_video(str(path / "videos" / "episode_beside_goal.mp4"), beside(goal, episode))


def curve_rows(folder: Path) -> list[dict[str, Any]]:
    """A run's scores as the learning curve wants them: step, score, success and kind (eval or episode)."""
    rows = []
    for row in loggers.read_scores(folder):
        for kind in ("eval", "episode"):
            if f"{kind}/score" in row:
                score, success = row[f"{kind}/score"], row.get(f"{kind}/success", 0.0)
                rows.append({"step": row["step"], "score": score, "success": success, "kind": kind})
    return rows
