"""The episodes that rewards are judged on: fixed, seeded, drawn once as training would see them, and kept.

Seeds: training and its evaluations draw theirs from all 31-bit numbers (:func:`parts.seed_of`), the embedded models
saw 0 to 99,999, were judged on 100,000 to 199,999 and adapted on 200,000 to 299,999. Scored episodes begin at
:data:`SEED`, forward-backward's own at :data:`FB_SEED`; every behaviour of a set plays the same seeds.
"""

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import elements
import numpy as np
from tqdm import tqdm

from genreward_jax.cache import cache_dir, make_once
from genreward_jax.demonstrations.behaviours import BEHAVIOURS, NOISE, STOPS, Actor, steps_until_giving_up
from genreward_jax.envs.frame_slots import FrameSlots
from genreward_jax.envs.metaworld import MetaWorld, check_task
from genreward_jax.envs.rendering import resolve_quality
from genreward_jax.rewards.base import Schedule
from genreward_jax.video import write_frames

SEED = 300_000
FB_SEED, FB_MIXED_SEED = 400_000, 450_000
FB_RANDOM, FB_MIXED = 24, 4  # episodes of random actions; seeds on which each noisy or stopping expert plays as well
FPS = 10.0  # of large frames' videos, which nobody looks at
FORMAT = 2  # part of the cache's key: raise it when the same settings come to mean other episodes


@dataclass
class Trajectory:
    """One episode of T agent steps, a row for each step, row 0 the reset.

    Attributes:
        task: Underscore name, '' for foreign ones.
        behaviour: One of :data:`behaviours.BEHAVIOURS`, or 'run' or 'given'.
        seed: Of the episode, or its number where it has none.
        frames: uint8 (T + 1, H, W, 3).
        actions: float32 (T + 1, A), row t: the action taken at row t; the last row zeros.
        rewards: float32 (T + 1,), the environment's reward as the run would use it; row 0 is 0.
        success: bool (T + 1,).
        large: A lossless video of the frames that training would draw for a reward whose models want another size than
            the agent's, T + 1 of them, the first blank: no window holds the reset. None where nobody wants them.
    """

    task: str
    behaviour: str
    seed: int
    frames: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    success: np.ndarray
    large: Path | None = None

    @property
    def length(self) -> int:
        """T, the agent's steps."""
        return len(self.rewards) - 1

    @property
    def success_step(self) -> int:
        """First step with success, -1 if there is none."""
        return int(self.success.argmax()) if self.success.any() else -1


def make_set(
    config: elements.Config,
    episodes: int,
    say: Callable[[str], None] = print,
    behaviours: tuple = BEHAVIOURS,
    frame_size: int = 0,
) -> list[Trajectory]:
    """The scored set of a configuration's task: each behaviour on the seeds SEED, SEED + 1, ...

    Frames, rewards, episode length, action repeat and end are those of the environment that a run with this
    configuration would have.

    Args:
        config: Its task and environment are read.
        episodes: Seeds.
        say: Told when episodes have to be drawn, and how many.
        behaviours: Which are played.
        frame_size: Height and width in pixels that rewards want; 0 is the agent's own.

    Returns:
        Ordered by behaviour, then by seed.
    """
    made = _collect(config, range(SEED, SEED + episodes), behaviours, say, frame_size)
    return sorted(made, key=lambda trajectory: behaviours.index(trajectory.behaviour))


def fb_set(config: elements.Config, mixed: bool, say: Callable[[str], None] = print) -> list[Trajectory]:
    """Episodes of other seeds, for the forward-backward network's training: random actions; if mixed, others beside.

    The others are noisy experts and experts that stop, no clean expert.
    """
    made = list(_collect(config, range(FB_SEED, FB_SEED + FB_RANDOM), ("random",), say))
    if mixed:
        others = (*NOISE, *STOPS)
        made += _collect(config, range(FB_MIXED_SEED, FB_MIXED_SEED + FB_MIXED), others, say)
    return made


def env_settings(config: elements.Config) -> dict[str, Any]:
    """What :class:`MetaWorld` is made with, plain values, task and resolved quality among them."""
    view = dict(config.env.metaworld)
    size = [int(side) for side in view["size"]]
    return {**view, "task": check_task(config.task), "size": size, "quality": resolve_quality(view["quality"])}


def _collect(
    config: elements.Config, seeds: range, behaviours: tuple, say: Callable[[str], None], frame_size: int = 0
) -> list[Trajectory]:
    """Plays what is missing, a folder a seed, in two processes at most; reads all."""
    settings = env_settings(config)
    if frame_size and settings["size"] != [frame_size, frame_size]:
        settings["frame_size"] = frame_size
    folder = cache_dir("score", f"{settings['task']}-{_digest(settings, behaviours)}")
    missing = [seed for seed in seeds if not (folder / str(seed)).is_dir()]
    if missing:
        count = len(missing) * len(behaviours)
        task = settings["task"].replace("_", " ")
        say(f"Drawing {count} episodes of {settings['length']} steps ({task}), once ...")
        play = partial(_play_seed, folder, settings, behaviours)
        # Spawned: a process draws with one OpenGL context, and this one may have JAX's threads.
        with multiprocessing.get_context("spawn").Pool(min(os.cpu_count() or 1, 2, len(missing))) as pool:
            bar = tqdm(total=count, unit="episode", desc=task, mininterval=1)
            for _ in pool.imap_unordered(play, missing):
                bar.update(len(behaviours))
            bar.close()
    return [_read(folder / str(seed) / f"{name}.safetensors", name, seed) for seed in seeds for name in behaviours]


def _digest(settings: dict[str, Any], behaviours: tuple) -> str:
    from importlib.metadata import version

    versions = [version(name) for name in ("metaworld", "mujoco")]
    content = json.dumps([FORMAT, settings, behaviours, versions, NOISE, STOPS], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


_STAGES: dict[str, tuple[MetaWorld, FrameSlots | None]] = {}  # a process plays all its seeds on one environment


def _play_seed(folder: Path, settings: dict[str, Any], behaviours: tuple, seed: int) -> None:
    """Plays one seed's episodes and leaves them in ``folder/<seed>``."""
    env, slots = _stage(settings)

    def fill(made: Path) -> None:
        from safetensors.numpy import save_file

        for behaviour in behaviours:
            trajectory, large = play(env, settings, behaviour, seed, slots)
            arrays = {name: value for name, value in vars(trajectory).items() if isinstance(value, np.ndarray)}
            save_file(arrays, made / f"{behaviour}.safetensors", {"task": settings["task"]})
            if large:
                write_frames(made / f"{behaviour}.mp4", np.stack(large), FPS)

    make_once(folder / str(seed), fill)


def _stage(settings: dict[str, Any]) -> tuple[MetaWorld, FrameSlots | None]:
    """The environment of those settings; with ``frame_size`` it draws a large frame at every step, as for a reward."""
    key = json.dumps(settings)
    if key not in _STAGES:
        more, slots = {}, None
        if "frame_size" in settings:
            made = FrameSlots.create(settings["frame_size"], 1)
            slots = FrameSlots.attach(made.name)
            more = {"frame_schedules": (Schedule(recent=2),), "frame_slots": slots.name}  # every step, the reset too
        _STAGES[key] = MetaWorld(**{**settings, "size": tuple(settings["size"])}, **more), slots
        if slots is not None:
            made.unlink()  # both ends are attached: the memory goes with the process, however that ends
    return _STAGES[key]


def play(
    env: MetaWorld, settings: dict[str, Any], behaviour: str, seed: int, slots: FrameSlots | None = None
) -> tuple[Trajectory, list[np.ndarray]]:
    """One episode on an environment of those settings, and each step's large frame where it has slots for them."""
    task, repeat = settings["task"], settings["repeat"]
    gives_up = steps_until_giving_up(env.simulator, task, behaviour, seed, settings["length"], repeat)
    actor = Actor(task, behaviour, seed, gives_up)
    env.seek(seed)
    row = env.step({"reset": True, "action": np.zeros(4, np.float32)})
    rows, actions = [row], []
    large = [] if slots is None else [slots.take(int(row["frame_slot"]))]
    while not row["is_last"]:
        actions.append(actor.act(env.state))
        row = env.step({"reset": False, "action": actions[-1]})
        rows.append(row)
        if slots is not None:
            large.append(slots.take(int(row["frame_slot"])))
    trajectory = Trajectory(
        task=task,
        behaviour=behaviour,
        seed=seed,
        frames=np.stack([row["image"] for row in rows]),
        actions=np.stack([*actions, np.zeros(4, np.float32)]),
        rewards=np.array([row["reward"] for row in rows], np.float32),
        success=np.array([row["log/success"] > 0 for row in rows]),
    )
    return trajectory, large


def _read(path: Path, behaviour: str, seed: int) -> Trajectory:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}
        large = path.with_suffix(".mp4")
        return Trajectory(file.metadata()["task"], behaviour, seed, **arrays, large=large if large.exists() else None)


def rows_of(trajectory: Trajectory, frames: np.ndarray | None = None) -> Iterator[dict[str, np.ndarray]]:
    """The rows as a driver would give them to the shaper.

    Args:
        trajectory: The episode.
        frames: uint8 (T + 1, S, S, 3) in place of its own, where rewards want another size.
    """
    frames = trajectory.frames if frames is None else frames
    for t in range(trajectory.length + 1):
        yield {
            "image": frames[t],
            "action": trajectory.actions[t],
            "reward": trajectory.rewards[t],
            "is_first": np.bool_(t == 0),
            "is_last": np.bool_(t == trajectory.length),
            "is_terminal": np.bool_(False),
        }
