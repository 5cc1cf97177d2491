"""Training, as the paper's algorithm 1: DreamerV3 on the environment's reward plus the generative one.

Read :func:`train_loop` for the algorithm; :func:`train` around it opens the run directory and makes the parts.
"""

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import elements
import embodied
import numpy as np

from genreward_jax import frame_states, loggers, parts, report
from genreward_jax.artist import Artist
from genreward_jax.checkpoint import Checkpoint
from genreward_jax.device import prepare_jax
from genreward_jax.episodes import EpisodeStats
from genreward_jax.errors import UserError
from genreward_jax.evaluation.episodes import SEED, Stopped, play, said_success, summary
from genreward_jax.fb import settings as fb_settings
from genreward_jax.kept_frames import KeptFrames
from genreward_jax.prefill import Policy
from genreward_jax.progress import Progress, say
from genreward_jax.replay import ShapedReplay
from genreward_jax.rewarding import Rewarding, make_rewarding
from genreward_jax.rundir import RunDirectory
from genreward_jax.stopping import StopSignal
from genreward_jax.suites import observed
from genreward_jax.watch import Watch, watch_of

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
    artist: Artist = field(default_factory=Artist)
    latest: dict[str, float] = field(default_factory=dict)
    successes: deque[float] = field(default_factory=lambda: deque(maxlen=10))
    recent: deque[dict] = field(default_factory=lambda: deque(maxlen=DRIFT_IMAGES))  # observations, spread in time

    @property
    def step(self) -> elements.Counter:
        return self.logger.step


def train_loop(run: Run, started_at: int) -> None:
    """Algorithm 1, from line 7. Lines 1 to 6 are the parts' making and, once a user, the model's fine-tuning."""
    config, agent, replay, step = run.config, run.agent, run.replay, run.step
    args, batch_steps = config.run, config.batch_size * config.batch_length
    should_train = elements.when.Ratio(args.train_ratio / batch_steps)
    should_log = elements.when.Clock(args.log_every, first=False)
    should_save = elements.when.Clock(args.save_every, first=False)
    # A report draws from the replay when the clock says so, which would make a run depend on time.
    reports = config.agent.report and args.report_every and not args.deterministic
    should_report = elements.when.Clock(args.report_every if reports else -1, first=False)
    next_evaluation = _next(last_evaluation(run), int(config.eval.every))
    train_agg, policy_fps, train_fps = elements.Agg(), elements.FPS(), elements.FPS()

    batches = iter(agent.stream(parts.make_stream(config, replay, "train"), prefetch=not args.deterministic))
    carry = [agent.init_train(config.batch_size)]
    policy = Policy(agent, int(args.prefill), step, config.seed)

    def train_step(tran: dict[str, np.ndarray], worker: int) -> None:  # lines 9 and 12: world model, behaviour and FB
        if step < args.prefill or len(replay) < batch_steps:
            return
        for _ in range(should_train(step)):
            carry[0], outs, metrics = agent.train(carry[0], next(batches))
            if "replay" in outs:
                replay.update(outs["replay"])
            run.updates.increment()
            train_fps.step(batch_steps)
            train_agg.add({k if k.startswith("fb/") else f"train/{k}": v for k, v in metrics.items()})

    driver = embodied.Driver(training_envs(config, run.rewarding, started_at), parallel=not args.debug)
    driver.on_step(lambda tran, worker: step.increment(int(not tran["is_first"])))  # a reset is no step
    driver.on_step(lambda tran, worker: policy_fps.step())
    driver.on_step(replay.add)  # lines 16 to 22: the shaper before the replay pays r_gen at reward steps
    driver.on_step(train_step)
    driver.reset(policy.init)
    try:
        if step == 0:
            evaluate(run, config.eval.first_episodes)
        while step < args.steps and not run.stop():
            driver(policy, steps=1)  # lines 13 to 15
            if parts.uses_fb(run.rewarding.terms) and step >= config.fb.train_steps and not agent.fb_frozen:
                agent.freeze_fb()  # section 4.1: trained for the first steps, then frozen
                run.progress.say(f"Step {int(step)}: the forward-backward network is frozen; its reward is paid now.")
            if should_log(step):
                log(run, train_agg, policy_fps, train_fps)
            if should_report(step) and len(replay):
                run.logger.add(_report(run), prefix="report")
            if next_evaluation and step >= next_evaluation and step < args.steps:
                evaluate(run, config.eval.episodes)
                next_evaluation = _next(int(step), int(config.eval.every))
            if should_save(step):
                run.checkpoint.save(int(step))
        replay.drain()
        run.checkpoint.save(int(step))
        if not run.stop():
            evaluate(run, config.eval.episodes)
            run.checkpoint.save(int(step))
        log(run, train_agg, policy_fps, train_fps)
    except Stopped:
        run.checkpoint.save(int(step))
        log(run, train_agg, policy_fps, train_fps)
    finally:
        driver.close()


def training_envs(config: elements.Config, rewarding: Rewarding, started_at: int) -> list[Callable[[], Any]]:
    """Makers of the training environments; a run that goes on draws other episodes than it drew before."""
    settings = rewarding.env_settings or [{}] * config.run.envs
    seeds = [parts.seed_of(config.seed, index, started_at) for index in range(config.run.envs)]
    return [partial(parts.make_env, config, i, seed=seeds[i], **settings[i]) for i in range(config.run.envs)]


def last_evaluation(run: Run) -> int:
    """Step of the last evaluation that was written down; 0 for none."""
    return max((int(row["step"]) for row in loggers.read_scores(run.folder.path) if "eval/score" in row), default=0)


def _next(step: int, every: int) -> int:
    return (step // every + 1) * every if every > 0 else 0


def evaluate(run: Run, episodes: int) -> None:
    """Plays on the plain environment (section 4.2), writes scores, video and learning curve; Stopped if told to."""
    config, step = run.config, int(run.step)
    if episodes < 1:
        return
    env = partial(eval_env, config)
    played = play(run.agent, env, episodes, config.run.envs, film=1, parallel=not config.run.debug, stop=run.stop)
    figures = summary(played)
    run.logger.add(figures)
    run.logger.write()
    run.progress.say(
        f"Step {step}: evaluation over {episodes} episode{'s' * (episodes > 1)}: return {figures['eval/score']:.1f}"
        f"{said_success(figures['eval/success'])}."
    )
    if config.run.plots:
        run.artist.run(run.folder.path, config, played, run.rewarding.goal_video)


def eval_env(config: elements.Config, index: int) -> Any:
    """Evaluation environment ``index``: the run's own settings, seeds that are the same at every evaluation."""
    return parts.make_env(config, index, seed=parts.seed_of(SEED, index), film=True)


def _report(run: Run) -> dict[str, Any]:
    """Upstream's open-loop predictions on one batch."""
    config, agent = run.config, run.agent
    batch = next(iter(agent.stream(parts.make_stream(config, run.replay, "report"), prefetch=False)))
    _, metrics = agent.report(agent.init_report(config.batch_size), batch)
    return metrics


def log(run: Run, train_agg: elements.Agg, policy_fps: elements.FPS, train_fps: elements.FPS) -> None:
    """Writes what has gathered since the last time."""
    trained = train_agg.result()
    run.logger.add(trained)
    run.watch.check_fb(trained)
    run.logger.add({"fps/policy": policy_fps.result(), "fps/train": train_fps.result()})
    figures = run.rewarding.shaper.stats()
    run.logger.add({f"reward/{k}": v for k, v in {**figures, **run.watch.stats()}.items()})
    run.watch.check(figures)
    run.logger.add(run.replay.stats(), prefix="replay")
    run.logger.add(run.usage.stats(), prefix="usage")
    run.logger.add({"train/updates": int(run.updates)})
    if parts.uses_fb(run.rewarding.terms) and run.agent.fb_frozen and len(run.recent) == DRIFT_IMAGES:
        # Not a sample of the replay: that would move its random numbers by the clock.
        run.logger.add({"fb/encoder_drift": run.agent.encoder_drift(drifted(run))})
    run.logger.write()


def drifted(run: Run) -> dict[str, np.ndarray]:
    """The observations kept for the encoder's drift, (DRIFT_IMAGES, ...) each."""
    return {key: np.stack([seen[key] for seen in run.recent]) for key in run.recent[0]}


def train(config: elements.Config) -> int:
    """Opens the run directory, makes the parts, trains, and says where to look; gives the exit code.

    Raises:
        UserError: whatever the user can mend; nothing is half-written then.
    """
    terms = parts.check(config)
    report.check_goal_source(config)
    folder = RunDirectory(config.logdir)
    continued = folder.open(config)
    stop = StopSignal()
    rewarding = run = None
    try:
        if not continued:
            folder.keep_config(config)
        config = prepare_jax(config, bridge=bool(terms))
        rewarding = make_rewarding(config, terms, folder.path, say=say)
        if rewarding.goal is not None:
            folder.check_goal(rewarding.goal.digest, config)
            rewarding.goal.save(folder / "goal")
        print("Making the agent ...", flush=True)
        run = make_run(config, folder, rewarding, stop)
        folder.keep_config(config)
        return go(run, continued)
    except BaseException as error:
        # A run that never began, or was refused before it had anything worth keeping, leaves no trace.
        if run is None or (isinstance(error, UserError) and run.checkpoint.latest() is None):
            folder.discard()
        raise
    finally:
        if rewarding is not None:
            rewarding.close()
        folder.close()


def go(run: Run, continued: bool) -> int:
    """Finds where the run is, says what will happen, trains, and says what did; gives the exit code."""
    config = run.config
    started_at = (run.checkpoint.load() or 0) if continued else 0
    loggers.drop_after(run.folder.path, started_at)
    print(report.start_block(config, run.rewarding, started_at), flush=True)
    if run.step >= config.run.steps and last_evaluation(run) >= int(run.step):
        print(f"This run is at step {int(run.step)} already: raise STEPS= to go on, or make eval RUN={config.logdir}.")
        return 0
    run.progress = Progress(int(config.run.steps), int(run.step), config.run.progress)
    if config.jax.platform == "cpu":
        run.progress.say("The first steps compile the agent (a minute or two on a CPU; the next start is short).")
    begun = time.time()
    try:
        train_loop(run, started_at)
    finally:
        run.progress.close()
    run.logger.close()
    for failure in run.artist.close():
        print(f"A picture could not be drawn: {failure}", flush=True)
    print(report.end_block(run, run.stop.name, time.time() - begun), flush=True)
    return 0


def make_run(config: elements.Config, folder: RunDirectory, rewarding: Rewarding, stop: StopSignal) -> Run:
    """The parts around an agent, a replay and a reward, tied together by what each row tells the others."""
    from dreamerv3_patches.checkpoint import load_agent, save_agent

    agent = parts.make_agent(config, rewarding.terms)
    if parts.uses_fb(rewarding.terms):
        agent.set_goal(rewarding.fb_goal)
        embedder = frame_states.capability(fb_settings.resolve(config.fb))
        agent.embed_state = lambda images: rewarding.bridge.call(embedder, images).result()
    logger = loggers.make_logger(folder.path, config.logger.outputs, "/".join(Path(config.logdir).parts[-4:]))
    stats = EpisodeStats([term.name for term in rewarding.terms])
    updates = elements.Counter()
    kept = KeptFrames(folder / "reward_frames") if config.replay.reward_frames else None
    replay = ShapedReplay(parts.make_replay(config, folder / "replay"), rewarding.shaper, frames=kept)
    counters = {"step": logger.step, "updates": updates}
    checkpoint = Checkpoint(
        folder / "checkpoint",
        partial(save_agent, agent),
        partial(load_agent, agent),
        replay,
        rewarding.shaper,
        counters,
    )
    progress = Progress(1, 0, enabled=False)
    usage = elements.Usage(**config.run.usage)
    watch = watch_of(config, rewarding.terms, say)
    run = Run(
        config, folder, agent, replay, rewarding, logger, checkpoint, updates, progress, stats, stop, usage, watch
    )
    replay.on_row = partial(on_row, run)
    return run


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


def main(config: elements.Config) -> None:
    """Runs :func:`train` and leaves with its exit code; for the command line."""
    try:
        sys.exit(train(config))
    except UserError as error:
        print(f"genreward_jax: {error}", file=sys.stderr)
        sys.exit(2)
