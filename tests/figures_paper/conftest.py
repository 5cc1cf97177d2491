"""Run directories without training: written by the project's own writers, with returns that the test chooses."""

from pathlib import Path

import numpy as np
import pytest

from genreward_jax import loggers, provenance
from genreward_jax.config import parse
from genreward_jax.evaluation import episodes
from genreward_jax.rundir import RunDirectory


def write_run(path: Path, *flags: str, returns: dict[int, list[float]], old: bool = False) -> Path:
    """A run directory of the smoke preset with these flags.

    Args:
        returns: step to the returns of that evaluation's episodes; above 100 counts as success.
        old: As runs were before they kept single episodes and their provenance.
    """
    config = parse(["--preset", "smoke", *flags])
    path.mkdir(parents=True)
    RunDirectory(str(path)).keep_config(config.update(logdir=str(path)))
    logger = loggers.make_logger(path, (), "test")
    for step, scores in returns.items():
        logger.step.load(step)
        played = [episodes.Episode(score=score, success=float(score > 100)) for score in scores]
        logger.add(episodes.summary(played) | ({} if old else episodes.each(played)))
        logger.write()
    logger.close()
    if not old:
        provenance.keep(path)
    return path


def flags(task: str = "bin_picking", method: str = "none", seed: int = 0, reward: str = "dense") -> list[str]:
    given = ["--task", f"metaworld_{task}", "--method", method, "--seed", str(seed)]
    return [*given, "--env.metaworld.reward", reward]


def write_videos(path: Path, frames: int = 9) -> None:
    """An episode's video and a goal, as a run leaves them."""
    from genreward_jax.goals import Goal
    from genreward_jax.video import write_video

    rng = np.random.default_rng(0)
    shades = np.linspace(40, 200, frames).astype(np.uint8)
    video = np.broadcast_to(shades[:, None, None, None], (frames, 64, 64, 3)).copy()
    write_video(path / "videos" / "episode.mp4", video, 16)
    similarity = np.linspace(0.1, 0.5, frames).astype(np.float32)
    key = frames - 1
    sampled, psi = video[:4], rng.normal(size=384).astype(np.float32)
    goal = Goal(sampled, video, 8.0, ("it is done",), "a test", key, similarity, psi, "digest", video[key])
    goal.save(path / "goal")


@pytest.fixture(scope="session")
def plan_file(tmp_path_factory) -> Path:
    """A small plan: two tasks, two lines; and one figure that varies alpha."""
    file = tmp_path_factory.mktemp("plan") / "figures.yaml"
    file.write_text(PLAN)
    return file


PLAN = """
presets:
  smoke: {seeds: [0, 1], says: plumbing and not methods}
  cpu: {seeds: [0, 1, 2], says: ''}
figures:
  '5':
    kind: curves
    title: two tasks
    groups:
      - tasks: [bin_picking, shelf_place]
        lines:
          Dense: {method: none}
          GenReward: {method: genreward}
    printed:
      bin_picking: {Dense: 398, GenReward: 822}
  '6':
    kind: strips
    title: strips
    seeds: [0]
    groups:
      - {tasks: [bin_picking], lines: {Dense: {method: none}, GenReward: {method: genreward}}}
  '9':
    kind: curves
    title: alpha
    groups:
      - tasks: [bin_picking]
        lines:
          α = 1e-2: {method: genreward, reward.alpha: 1e-2}
          α = 1: {method: genreward, reward.alpha: 1.0}
  '10':
    kind: curves
    title: videos
    groups:
      - tasks: [bin_picking]
        lines: {Dense: {method: none}}
        videos: {method: genreward, files: {}}
  'A':
    kind: second_best
    title: second
    groups:
      - tasks: [bin_picking]
        lines:
          best: {method: genreward, goal.rank: 1}
          second: {method: genreward, goal.rank: 2}
"""
