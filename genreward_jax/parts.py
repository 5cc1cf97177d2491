"""The parts of a run, made from its configuration: spaces, environments, replay, streams, agent."""

from functools import partial
from pathlib import Path
from typing import Any

import elements
import embodied
import numpy as np

from genreward_jax import frame_states, suites
from genreward_jax.errors import UserError
from genreward_jax.fb import settings as fb_settings
from genreward_jax.methods import Term, load_method
from genreward_jax.suites import make_env as make_env
from genreward_jax.suites import one_of as one_of
from genreward_jax.suites import seed_of as seed_of
from genreward_jax.suites import split_task as split_task

FB_OUTPUTS = ("reward_fb", "reward_fb_paid")
LEAST = {
    "seed": 0, "run.envs": 1, "run.steps": 1, "run.prefill": 0, "run.train_ratio": 0, "batch_size": 1,
    "batch_length": 2, "replay.chunksize": 1, "reward.frames": 1, "reward.interval": 1, "reward.max_pending_rows": 1,
    "fb.dim": 1, "fb.hidden": 1, "fb.train_steps": 0, "fb.dino_every": 0, "eval.episodes": 1, "eval.first_episodes": 0,
    "eval.every": 0, "reward.fb_interval": 0, "run.actor_batch": 0, "goal.rank": 1, "goal.experts": 1,
    "bridge.threads": 1,
}  # fmt: skip


def check(config: elements.Config) -> list[Term]:
    """Refuses what cannot run before anything is made; gives the method's terms."""
    split_task(config.task)
    terms = load_method(config.method, dict(config.reward))
    fb = fb_settings.resolve(config.fb)
    one_of("model.dtype", config.model.dtype, ("float32", "bfloat16"))
    one_of("bridge.device", config.bridge.device, ("auto", "cpu", "cuda"))
    one_of("jax.platform", config.jax.platform, ("auto", "cpu", "cuda"))
    one_of("run.overlap", config.run.overlap, ("auto", "on", "off"))
    for name, least in LEAST.items():
        if not config.flat[name] >= least:
            raise UserError(f"--{name} is {config.flat[name]:g}; it must be {least} or more.")
    _check_script(config)
    for name in ("reward.alpha", "reward.beta", "reward.weight"):
        if not np.isfinite(config.flat[name]):
            raise UserError(f"--{name} is {config.flat[name]}; it must be a finite number.")
    if not 0 < config.bridge.memory_share < 0.9:
        raise UserError(f"--bridge.memory_share is {config.bridge.memory_share}; it must lie between 0 and 0.9.")
    suites.check(config, terms)
    if dino_every(config, terms) and "image" not in suites.spaces(config)[0]:
        raise UserError(
            "FB reads DINO embeddings of pictures here, and this environment observes none: see --fb.*_state."
        )
    if uses_fb(terms):
        fb_settings.check_spaces(fb, *agent_spaces(config))
    if config.agent.report and config.run.report_every and config.report_length > config.batch_length:
        raise UserError(
            f"--report_length {config.report_length} is longer than a batch ({config.batch_length}): lower it, "
            f"or switch the report off with --run.report_every 0."
        )
    return terms


def _check_script(config: elements.Config) -> None:
    """Refuses what ``--script parallel`` cannot keep: an order of steps, environments in the trainer's own process."""
    one_of("script", config.script, ("train", "parallel"))
    if config.script == "train":
        return
    for name in ("deterministic", "debug"):
        if config.run[name]:
            raise UserError(f"--run.{name} does not go with --script parallel: leave one of them out.")
    if config.run.actor_batch > config.run.envs:
        raise UserError(
            f"--run.actor_batch is {config.run.actor_batch}, but --run.envs is {config.run.envs}: a policy call cannot "
            f"wait for more environments than there are."
        )


def uses_fb(terms: list[Term]) -> bool:
    """Whether a term reads what the forward-backward network returns in the policy call."""
    return any(set(term.reward_class().outputs) & set(FB_OUTPUTS) for term in terms)


def fb_objective(config: elements.Config) -> str:
    """What the forward-backward networks of a run with this configuration learn from; '' where it has none."""
    return str(config.fb.objective) if uses_fb(load_method(config.method, dict(config.reward))) else ""


def dino_every(config: elements.Config, terms: list[Term]) -> int:
    """Every how many rows of an episode get a DINOv3 embedding; 0 where nothing reads one."""
    return frame_states.every(fb_settings.resolve(config.fb), config.jax.platform) if uses_fb(terms) else 0


def agent_spaces(config: elements.Config) -> tuple[dict[str, elements.Space], dict[str, elements.Space]]:
    """What the agent observes and does: known without opening a simulator in this process."""
    return suites.spaces(config)


def fb_interval(config: elements.Config) -> int:
    """Every how many steps of an episode r_FB is paid."""
    return int(config.reward.fb_interval or config.reward.interval)


def make_replay(config: elements.Config, folder: Path) -> embodied.replay.Replay:
    """Upstream's replay, kept in ``folder``; saving waits until it is on the disk."""
    length = config.consec_train * config.batch_length + config.replay_context
    capacity = int(config.replay.size)
    if capacity < config.batch_size * length:
        raise UserError(f"--replay.size is {capacity}; a batch alone needs {config.batch_size * length}.")
    return embodied.replay.Replay(
        length=length,
        capacity=capacity,
        online=config.replay.online,
        chunksize=config.replay.chunksize,
        directory=elements.Path(str(folder)),
        save_wait=True,
        seed=config.seed,
    )


def make_stream(config: elements.Config, replay: Any, mode: str) -> Any:
    """Batches of consecutive rows with their context, as upstream's."""
    train = mode == "train"
    return embodied.streams.Consec(
        embodied.streams.Stateless(partial(replay.sample, config.batch_size, mode)),
        length=config.batch_length if train else config.report_length,
        consec=config.consec_train if train else config.consec_report,
        prefix=config.replay_context,
        strict=train,
        contiguous=True,
    )


def make_agent(config: elements.Config, terms: list[Term]) -> Any:
    """The official agent, with FB inside when a term needs it."""
    from dreamerv3_patches.agent import make_agent as make
    from dreamerv3_patches.apply import apply

    apply(fast_convs=config.patches.fast_convs)
    settings = elements.Config(
        **config.agent,
        logdir=config.logdir,
        seed=config.seed,
        jax=config.jax,
        batch_size=config.batch_size,
        batch_length=config.batch_length,
        replay_context=config.replay_context,
        report_length=config.report_length,
        replica=0,
        replicas=1,
    )
    fb = {**fb_settings.resolve(config.fb), "dino_every": dino_every(config, terms)} if uses_fb(terms) else None
    obs_space, act_space = agent_spaces(config)
    return make(obs_space, act_space, settings, fb=fb, reward_interval=fb_interval(config))


def row_bytes(config: elements.Config, uses_dino: bool = False) -> int:
    """About how many bytes a replay row takes in memory, with a DINOv3 embedding or without."""
    rssm = config.agent.dyn.rssm
    context = 4 * (rssm.deter + rssm.stoch * rssm.classes) if config.replay_context else 0
    spaces = [space for part in agent_spaces(config) for space in part.values()]
    kept = sum(int(np.prod(space.shape)) * space.dtype.itemsize for space in spaces)
    embedding = 4 * frame_states.numbers(fb_settings.resolve(config.fb)) + 1 if uses_dino else 0
    return kept + context + embedding + 20 + 3 * 4  # stepid, and each reward's own value
