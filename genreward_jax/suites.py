"""Which environments there are: what a task's name means, its spaces, its maker, and what may be asked of it."""

import multiprocessing
import re
import signal
from typing import Any

import elements
import numpy as np

from genreward_jax.config import nearest
from genreward_jax.envs.gym_look import Look, look
from genreward_jax.envs.metaworld import MetaWorld, check_camera, check_task
from genreward_jax.errors import UserError
from genreward_jax.methods import Term
from genreward_jax.shaping import reward_rows

ROW = {
    "reward": elements.Space(np.float32),
    "is_first": elements.Space(bool),
    "is_last": elements.Space(bool),
    "is_terminal": elements.Space(bool),
}  # what a row has beside the observation
EVALUATION_SEED = 1_000_003  # evaluation's episodes are the same at every evaluation, and no training seed's


def split_task(task: str) -> tuple[str, str]:
    """``metaworld_shelf_place`` to ('metaworld', 'shelf_place'), ``gym_CartPole-v1`` to ('gym', 'CartPole-v1').

    Raises:
        UserError: another suite, or no such Meta-World task (with the nearest).
    """
    suite, _, name = task.partition("_")
    if suite not in ("metaworld", "gym") or not name:
        raise UserError(
            f"The task '{task}' has no suite that is known: write metaworld_<task>, as metaworld_reach, or gym_<id>, "
            f"as gym_CartPole-v1 or gym_module:EnvId."
        )
    return suite, check_task(name) if suite == "metaworld" else name


def file_name(name: str) -> str:
    """A task's name as part of a path: 'tests.tiny:Tiny-v0' to 'tests.tiny-Tiny-v0'."""
    return re.sub(r"[^\w.-]+", "-", name)


def gym_look(config: elements.Config) -> Look:
    """What the configuration's Gymnasium environment is like; opened once, in a process of its own."""
    _, name = split_task(config.task)
    return look(name, tuple(int(side) for side in config.env.gym.size), config.env.gym.kwargs)


def spaces(config: elements.Config) -> tuple[dict[str, elements.Space], dict[str, elements.Space]]:
    """What the agent observes and does: known without opening a simulator in this process."""
    suite, _ = split_task(config.task)
    if suite == "gym":
        found = gym_look(config)
        return {**found.obs, **ROW}, {"action": found.act}
    height, width = config.env.metaworld.size
    image = {"image": elements.Space(np.uint8, (height, width, 3))}
    return {**image, **ROW}, {"action": elements.Space(np.float32, (4,), -1, 1)}


def observed(space: dict[str, elements.Space]) -> dict[str, elements.Space]:
    """The part of the agent's observation space that its encoder sees."""
    return {key: value for key, value in space.items() if key not in ROW}


def make_env(config: elements.Config, index: int, *, film: bool = False, **overrides: Any) -> Any:
    """The ``index``-th environment, in the process that steps it.

    A child leaves Ctrl-C to its parent: the terminal sends it to the whole group.

    Args:
        film: The episode may be filmed: an environment whose observations hold no picture shows one beside them.
        overrides: Settings of the environment instead of the flags'.
    """
    if multiprocessing.parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    suite, name = split_task(config.task)
    settings = {**dict(config.env[suite]), "seed": seed_of(config.seed, index), **overrides}
    settings["size"] = tuple(settings["size"])
    if suite == "metaworld":
        return MetaWorld(name, **settings)
    from genreward_jax.envs.gymnasium_env import GymEnv

    return GymEnv(name, film=film, **settings)


def eval_env(config: elements.Config, index: int) -> Any:
    """Evaluation environment ``index``: the run's own settings, seeds that are the same at every evaluation.

    Here and not beside the run: the process that makes it has no need of JAX, which takes seconds to import.
    """
    return make_env(config, index, seed=seed_of(EVALUATION_SEED, index), film=True)


def seed_of(*numbers: int) -> int:
    """One 31-bit seed from several numbers, the same in every process (unlike ``hash``)."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0] >> 1)


def rows_show(config: elements.Config, frame_size: int) -> bool:
    """Whether the agent's own image is what a reward of this frame size wants; else frames come apart from rows."""
    suite, _ = split_task(config.task)
    if tuple(config.env[suite].size) != (frame_size, frame_size):
        return False
    if suite == "metaworld":
        return True
    picture = gym_look(config).picture  # a wide one is squeezed for the agent, and cut for rewards as goal videos are
    return bool(picture) and picture[0] == picture[1]


def check(config: elements.Config, terms: list[Term]) -> None:
    """Refuses a task and flags of its environment that cannot run, before anything is made."""
    suite, name = split_task(config.task)
    flags = config.env[suite]
    one_of(f"env.{suite}.reward", flags.reward, ("dense", "sparse", "none"))
    least = {"length": int(suite == "metaworld"), "repeat": 1, "sparse_every": 1}
    for flag, value in least.items():
        if not flags[flag] >= value:
            raise UserError(f"--env.{suite}.{flag} is {flags[flag]:g}; it must be {value} or more.")
    if suite == "metaworld":
        one_of("env.metaworld.quality", flags.quality, ("auto", "fast", "full"))
        check_camera(flags.camera)
        _check_image(config, suite)
        reward_rows(terms, flags.length, "--env.metaworld.length")
        return
    if min(flags.size) < 1:
        raise UserError(f"--env.gym.size {' '.join(map(str, flags.size))} is no size of a picture.")
    found = gym_look(config)
    if any(key.startswith("image") for key in found.obs):
        _check_image(config, suite)
    length = flags.length or -(-found.limit // flags.repeat)
    if length:
        reward_rows(terms, length, "--env.gym.length")
    looking = [term.name for term in terms if term.reward_class().wants_frames]
    if looking and not found.shows:
        raise UserError(
            f"The reward '{looking[0]}' looks at frames, but {name} shows none: {found.why_not}. Leave it out with "
            f"METHOD=none."
        )


def _check_image(config: elements.Config, suite: str) -> None:
    """Refuses an image that the encoder's halvings do not bring down to 3 to 16 pixels a side."""
    halvings, size = len(config.agent.enc.simple.mults), config.env[suite].size
    for side in size:
        if side % 2**halvings or not 3 <= side // 2**halvings <= 16:
            raise UserError(
                f"--env.{suite}.size {' '.join(map(str, size))} does not fit an encoder of {halvings} halvings: each "
                f"side must be a multiple of {2**halvings} from {3 * 2**halvings} to {16 * 2**halvings} pixels."
            )


def one_of(flag: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuses a flag's value that is none of those allowed."""
    if value not in allowed:
        raise UserError(f"--{flag} is '{value}': {nearest(value, list(allowed))}")
