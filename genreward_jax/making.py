"""Makes the parts of a run and ties them together: agent, reward, environments, replay, checkpoint, logs."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import elements

from genreward_jax import frame_states, loggers, parts
from genreward_jax.checkpoint import Checkpoint
from genreward_jax.device import cores
from genreward_jax.episodes import EpisodeStats
from genreward_jax.fb import settings as fb_settings
from genreward_jax.kept_frames import KeptFrames
from genreward_jax.methods import Term
from genreward_jax.progress import Progress, say
from genreward_jax.replay import ShapedReplay
from genreward_jax.rewarding import Rewarding, make_rewarding
from genreward_jax.run import Run, on_row
from genreward_jax.rundir import RunDirectory
from genreward_jax.startup import Startup
from genreward_jax.stopping import StopSignal
from genreward_jax.watch import watch_of


def make_rewarding_and_agent(
    config: elements.Config, terms: list[Term], folder: RunDirectory, startup: Startup
) -> tuple[Rewarding, Any]:
    """Both take seconds on a core each, so the agent is made while the model process starts."""
    made = []

    def make_agent() -> None:
        print("Making the agent ...", flush=True)
        made.append(parts.make_agent(config, terms))
        startup.mark("agent")

    rewarding = make_rewarding(config, terms, folder.path, say, meanwhile=make_agent)
    startup.mark("goal_and_models")
    return rewarding, *made


def make_run(
    config: elements.Config,
    folder: RunDirectory,
    agent: Any,
    rewarding: Rewarding,
    stop: StopSignal,
    startup: Startup,
) -> Run:
    """The parts around an agent, a replay and a reward, tied together by what each row tells the others."""
    from dreamerv3_patches.checkpoint import load_agent, save_agent

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
        config,
        folder,
        agent,
        replay,
        rewarding,
        logger,
        checkpoint,
        updates,
        progress,
        stats,
        stop,
        usage,
        watch,
        startup,
    )
    replay.on_row = partial(on_row, run)
    return run


def overlaps(config: elements.Config) -> bool:
    """Whether the environment plays on while a train step is computed."""
    if config.run.deterministic or config.run.overlap == "off":
        return False
    return config.run.overlap == "on" or (config.jax.platform == "cpu" and cores() > 2)


def training_envs(config: elements.Config, rewarding: Rewarding, started_at: int) -> list[Callable[[], Any]]:
    """Makers of the training environments; a run that goes on draws other episodes than it drew before."""
    settings = rewarding.env_settings or [{}] * config.run.envs
    seeds = [parts.seed_of(config.seed, index, started_at) for index in range(config.run.envs)]
    return [partial(parts.make_env, config, i, seed=seeds[i], **settings[i]) for i in range(config.run.envs)]
