"""A run in memory: its parts, and what it writes down and shows while it goes on."""

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import elements
import numpy as np

from genreward_jax import loggers, parts
from genreward_jax.artist import Artist
from genreward_jax.checkpoint import Checkpoint
from genreward_jax.episodes import EpisodeStats
from genreward_jax.evaluation.episodes import each, open_envs, play, said_success, summary
from genreward_jax.progress import Progress
from genreward_jax.replay import ShapedReplay
from genreward_jax.rewarding import Rewarding
from genreward_jax.rundir import RunDirectory
from genreward_jax.startup import Startup
from genreward_jax.stopping import StopSignal
from genreward_jax.suites import eval_env, observed
from genreward_jax.watch import Watch

DRIFT_IMAGES = 32  # on which the encoder's drift is measured
DRIFT_EVERY = 16  # rows between them


@dataclass
class Run:
    """Everything a training loop works with."""

    config: elements.Config
    folder: RunDirectory
    agent: Any
    replay: ShapedReplay
    rewarding: Rewarding
    logger: elements.Logger
    checkpoint: Checkpoint
    updates: elements.Counter
    progress: Progress
    stats: EpisodeStats
    stop: StopSignal
    usage: elements.Usage
    watch: Watch
    startup: Startup
    artist: Artist = field(default_factory=Artist)
    evaluation_envs: Any = None  # of the first evaluation, opened while the agent was made
    latest: dict[str, float] = field(default_factory=dict)
    successes: deque[float] = field(default_factory=lambda: deque(maxlen=10))
    recent: deque[dict] = field(default_factory=lambda: deque(maxlen=DRIFT_IMAGES))  # observations, spread in time

    @property
    def step(self) -> elements.Counter:
        return self.logger.step


def last_evaluation(run: Run) -> int:
    """Step of the last evaluation that was written down; 0 for none."""
    return max((int(row["step"]) for row in loggers.read_scores(run.folder.path) if "eval/score" in row), default=0)


def first_evaluation_envs(config: elements.Config) -> Any:
    """The first evaluation's environments, opening beside what follows; None without one, or in this process."""
    if config.eval.first_episodes < 1 or config.run.debug:
        return None
    from dreamerv3_patches.drivers import Ahead

    return Ahead(partial(_evaluation_envs, config))


def _evaluation_envs(config: elements.Config) -> Any:
    return open_envs(partial(eval_env, config), config.run.envs, parallel=not config.run.debug)


def evaluate(run: Run, episodes: int) -> None:
    """Plays on the plain environment (section 4.2), writes scores, video and learning curve; Stopped if told to."""
    config, step = run.config, int(run.step)
    if episodes < 1:
        return
    opened, run.evaluation_envs = run.evaluation_envs, None
    driver = opened.take() if opened is not None else _evaluation_envs(config)
    played = play(run.agent, driver, episodes, film=1, stop=run.stop)
    figures = summary(played)
    run.logger.add({**figures, **each(played)})
    run.logger.write()
    run.progress.say(
        f"Step {step}: evaluation over {episodes} episode{'s' * (episodes > 1)}: return {figures['eval/score']:.1f}"
        f"{said_success(figures['eval/success'])}."
    )
    if config.run.plots:
        run.artist.run(run.folder.path, config, played, run.rewarding.goal_video)


def open_loop_report(run: Run) -> dict[str, Any]:
    """Upstream's open-loop predictions on one batch."""
    config, agent = run.config, run.agent
    batch = next(iter(agent.stream(parts.make_stream(config, run.replay, "report"), prefetch=False)))
    _, metrics = agent.report(agent.init_report(config.batch_size), batch)
    return metrics


def log(run: Run, trained: dict[str, float], fps: dict[str, float], waited_s: float) -> None:
    """Writes figures of the train steps since the last time, speeds, and what else there is to say by now."""
    run.logger.add(trained)
    run.watch.check_fb(trained)
    run.logger.add({f"fps/{name}": value for name, value in fps.items()})
    figures = run.rewarding.shaper.stats()
    run.logger.add({f"reward/{k}": v for k, v in {**figures, **run.watch.stats()}.items()})
    run.watch.check(figures)
    run.logger.add(run.replay.stats(), prefix="replay")
    run.logger.add(run.usage.stats(), prefix="usage")
    run.logger.add({"train/updates": int(run.updates), "train/waited_s": waited_s})
    if parts.uses_fb(run.rewarding.terms) and run.agent.fb_frozen and len(run.recent) == DRIFT_IMAGES:
        # Not a sample of the replay: that would move its random numbers by the clock.
        run.logger.add({"fb/encoder_drift": run.agent.encoder_drift(drifted(run))})
    run.logger.write()


def drifted(run: Run) -> dict[str, np.ndarray]:
    """The observations kept for the encoder's drift, (DRIFT_IMAGES, ...) each."""
    return {key: np.stack([seen[key] for seen in run.recent]) for key in run.recent[0]}


def on_row(run: Run, row: dict[str, np.ndarray], worker: int) -> None:
    """Follows a shaped row on its way into the replay: episode figures to the log, numbers to the bar."""
    run.watch.add(row, worker)
    figures = run.stats.add(row, worker)
    if int(run.step) % DRIFT_EVERY == 0:
        run.recent.append({key: row[key] for key in observed(run.agent.obs_space)})
    if figures is None:
        if int(run.step) % 8 == 0:
            _show(run)
        return
    run.logger.add(figures)
    run.latest.update(figures)
    run.successes.append(figures["episode/success"])
    _show(run)


def _show(run: Run) -> None:
    latest = run.latest
    success = float(np.mean(run.successes)) if run.successes else None  # of the last ten episodes
    if success is not None and np.isnan(success):  # the environment does not say
        success = None
    shown = {"return": latest.get("episode/score"), "success": success}
    for term in run.rewarding.terms:
        shown[f"r_{term.name}"] = latest.get(f"reward/{term.name}")
    run.progress.show(int(run.step), int(run.updates), **shown)
