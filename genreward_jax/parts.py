"""The parts of a run, made from its configuration: spaces, environments, replay, streams, agent."""

import multiprocessing
import signal
from functools import partial
from pathlib import Path
from typing import Any

import elements
import embodied
import numpy as np

from genreward_jax.config import nearest
from genreward_jax.envs.metaworld import MetaWorld, check_camera, check_task
from genreward_jax.errors import UserError
from genreward_jax.fb import settings as fb_settings
from genreward_jax.methods import Term, load_method
from genreward_jax.shaping import reward_rows

FB_OUTPUTS = ("reward_fb", "reward_fb_paid")
LEAST = {
    "seed": 0, "run.envs": 1, "run.steps": 1, "run.prefill": 0, "run.train_ratio": 0, "batch_size": 1,
    "batch_length": 2, "replay.chunksize": 1, "reward.frames": 1, "reward.interval": 1, "reward.max_pending_rows": 1,
    "fb.dim": 1, "fb.hidden": 1, "fb.train_steps": 0, "fb.dino_every": 0, "eval.episodes": 1, "eval.first_episodes": 0,
    "eval.every": 0, "goal.rank": 1, "bridge.threads": 1, "env.metaworld.length": 1, "env.metaworld.repeat": 1,
    "env.metaworld.sparse_every": 1,
}  # fmt: skip


def split_task(task: str) -> tuple[str, str]:
    """``metaworld_shelf_place`` to ('metaworld', 'shelf_place'), checked.

    Raises:
        UserError: another suite, or no such task (with the nearest).
    """
    suite, _, name = task.partition("_")
    if suite != "metaworld" or not name:
        raise UserError(f"The task '{task}' has no suite that is known: write metaworld_<task>, as metaworld_reach.")
    return suite, check_task(name)


def check(config: elements.Config) -> list[Term]:
    """Refuses what cannot run before anything is made; gives the method's terms."""
    _, name = split_task(config.task)
    flags = config.env.metaworld
    terms = load_method(config.method, dict(config.reward))
    reward_rows(terms, flags.length)
    one_of("env.metaworld.reward", flags.reward, ("dense", "sparse", "none"))
    one_of("env.metaworld.quality", flags.quality, ("auto", "fast", "full"))
    fb_settings.resolve(config.fb)
    one_of("model.dtype", config.model.dtype, ("float32", "bfloat16"))
    one_of("bridge.device", config.bridge.device, ("auto", "cpu", "cuda"))
    one_of("jax.platform", config.jax.platform, ("auto", "cpu", "cuda"))
    for name, least in LEAST.items():
        if not config.flat[name] >= least:
            raise UserError(f"--{name} is {config.flat[name]:g}; it must be {least} or more.")
    for name in ("reward.alpha", "reward.beta"):
        if not np.isfinite(config.flat[name]):
            raise UserError(f"--{name} is {config.flat[name]}; it must be a finite number.")
    if not 0 < config.bridge.memory_share < 0.9:
        raise UserError(f"--bridge.memory_share is {config.bridge.memory_share}; it must lie between 0 and 0.9.")
    check_camera(flags.camera)
    _check_image(config)
    if config.agent.report and config.run.report_every and config.report_length > config.batch_length:
        raise UserError(
            f"--report_length {config.report_length} is longer than a batch ({config.batch_length}): lower it, "
            f"or switch the report off with --run.report_every 0."
        )
    return terms


def _check_image(config: elements.Config) -> None:
    """Refuses an image that the encoder's halvings do not bring down to 3 to 16 pixels a side."""
    halvings = len(config.agent.enc.simple.mults)
    for side in config.env.metaworld.size:
        if side % 2**halvings or not 3 <= side // 2**halvings <= 16:
            raise UserError(
                f"--env.metaworld.size {' '.join(map(str, config.env.metaworld.size))} does not fit an encoder of "
                f"{halvings} halvings: each side must be a multiple of {2**halvings} from {3 * 2**halvings} to "
                f"{16 * 2**halvings} pixels."
            )


def one_of(flag: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuses a flag's value that is none of those allowed."""
    if value not in allowed:
        raise UserError(f"--{flag} is '{value}': {nearest(value, list(allowed))}")


def uses_fb(terms: list[Term]) -> bool:
    """Whether a term reads what the forward-backward network returns in the policy call."""
    return any(set(term.reward_class().outputs) & set(FB_OUTPUTS) for term in terms)


def agent_spaces(config: elements.Config) -> tuple[dict[str, elements.Space], dict[str, elements.Space]]:
    """What the agent observes and does: known without opening a simulator in this process."""
    height, width = config.env.metaworld.size
    obs = {
        "image": elements.Space(np.uint8, (height, width, 3)),
        "reward": elements.Space(np.float32),
        "is_first": elements.Space(bool),
        "is_last": elements.Space(bool),
        "is_terminal": elements.Space(bool),
    }
    return obs, {"action": elements.Space(np.float32, (4,), -1, 1)}


def make_env(config: elements.Config, index: int, **overrides: Any) -> MetaWorld:
    """The ``index``-th environment, in the process that steps it.

    A child leaves Ctrl-C to its parent: the terminal sends it to the whole group.
    """
    if multiprocessing.parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, name = split_task(config.task)
    settings = {**dict(config.env.metaworld), "seed": seed_of(config.seed, index), **overrides}
    settings["size"] = tuple(settings["size"])
    return MetaWorld(name, **settings)


def seed_of(*numbers: int) -> int:
    """One 31-bit seed from several numbers, the same in every process (unlike ``hash``)."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0] >> 1)


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
    fb = dict(config.fb) if uses_fb(terms) else None
    obs_space, act_space = agent_spaces(config)
    return make(obs_space, act_space, settings, fb=fb, reward_interval=int(config.reward.interval))


def row_bytes(config: elements.Config) -> int:
    """About how many bytes a replay row takes in memory."""
    height, width = config.env.metaworld.size
    rssm = config.agent.dyn.rssm
    context = 4 * (rssm.deter + rssm.stoch * rssm.classes) if config.replay_context else 0
    return height * width * 3 + context + 4 * 4 + 20 + 3 * 4 + 3
