"""What the scored rewards share: the goal, the model process, embeddings of frames, a run's agent."""

import hashlib
import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import elements
import numpy as np
from tqdm import tqdm

from genreward_jax import frame_states
from genreward_jax.cache import cache_dir, make_once
from genreward_jax.envs.metaworld import check_task
from genreward_jax.generating import key_prompts
from genreward_jax.goal_video import goal_video
from genreward_jax.goals import Goal, load_goal, make_goal
from genreward_jax.parts import fb_objective
from genreward_jax.rewarding import bridge_spec, fb_goal, make_bridge, models_config
from genreward_jax.score.trajectories import Trajectory, fb_set
from genreward_jax.video import fit, read_frames

REMEMBERED = 1 << 30  # bytes of windows' latents that the bridge keeps: rewards that look at the same ones share them
CHUNK = 64  # frames in one call of the image model
FOR_GOAL = {"embed_image", "embed_text", "embed_state", "embed_regions"}


class Context:
    """Made once for a command; :meth:`close` ends the model process.

    Args:
        config: Of the run that is judged, or that would be made.
        run: A run directory, for its goal and its forward-backward networks; '' for none.
        say: Told what takes a while.
        own_rewards: Whether rewards of a user's own are judged.
    """

    def __init__(
        self,
        config: elements.Config,
        run: str = "",
        say: Callable[[str], None] = print,
        own_rewards: bool = False,
    ) -> None:
        self.config, self.say = models_config(config, own_rewards), say
        self._own_rewards, self._python = own_rewards, str(config.bridge.python)
        self.run = Path(run) if run else None
        self._bridge: Any = None
        self._goals: dict[str, Goal] = {}
        self.keeps = True  # embeddings on the disk; not while their cost is measured
        self.shifts = 0  # by how many pixels frames were shifted last to be new to every memory
        self._enlarged: set[str] = set()  # behaviours of which there are only frames smaller than the models want
        self.networks: dict[tuple, Any] = {}  # forward-backward ones, made once

    @property
    def task(self) -> str:
        """Underscore name."""
        return check_task(self.config.task)

    @property
    def frames(self) -> int:
        """How many frames a reward sees of a window."""
        return int(self.config.reward.frames)

    @property
    def bridge(self) -> Any:
        """The model process, started when it is first needed, on all cores: nothing else works beside it."""
        if self._bridge is None:
            from dataclasses import replace

            self.say("Starting the model process (torch) ...")
            spec = replace(bridge_spec(self.config, None), python=self._python, remember=REMEMBERED)
            spec.threads = max(spec.threads, os.cpu_count() or 1)
            self._bridge = make_bridge(spec, FOR_GOAL, self._own_rewards, self.say)
            self._bridge.start()
        return self._bridge

    def goal(self, task: str = "") -> Goal:
        """The goal of the configuration's task, or of another one made from the same kind of source.

        Raises:
            UserError: As :func:`goal_video.goal_video` and :func:`goals.make_goal`.
        """
        if task not in self._goals:
            kept = self.run / "goal" if self.run and not task else None
            own = kept is not None and (kept / "goal.json").is_file()
            self._goals[task] = load_goal(kept) if own else self._make_goal(task)
        return self._goals[task]

    def _make_goal(self, task: str) -> Goal:
        config = self.config.update(task=f"metaworld_{task}") if task else self.config
        video = goal_video(config, self.say)
        settings = {"size": self.bridge.frame_size, "frames": self.frames, "rank": config.goal.rank}
        settings |= {"cache_dir": cache_dir("goals"), "say": self.say}
        return make_goal(video.frames, video.fps, video.source, key_prompts(config), self.bridge, **settings)

    def fb_goal(self, fb: Mapping[str, Any], task: str = "") -> np.ndarray:
        """What networks with these settings are told of a task's goal; see :func:`frame_states.goal_states`."""
        config = self.config.update(task=f"metaworld_{task}") if task else self.config
        settings = {key: fb[key] for key in self.config.fb}
        return fb_goal(config.update(fb=settings), self.goal(task), self.bridge.call)

    def at_reward_size(self, trajectory: Trajectory) -> np.ndarray:
        """The episode's frames at the size that the reward models want, uint8 (T + 1, S, S, 3)."""
        size = self.bridge.frame_size
        if trajectory.frames.shape[1:3] == (size, size):
            return trajectory.frames
        if trajectory.large:
            return read_frames(trajectory.large)
        if trajectory.frames.shape[1] < size:
            self._enlarged.add(trajectory.behaviour)
        return fit(trajectory.frames, size)

    def embed(self, trajectory: Trajectory, fb: Mapping[str, Any]) -> np.ndarray:
        """DINOv3's features of every frame, float32 (T + 1, numbers); kept by the frames' and the model's content."""
        from safetensors.numpy import load_file, save_file

        kind = frame_states.capability(fb)
        if not self.keeps:
            return self._features(trajectory, kind)
        model = self.bridge.describe()["digests"]["dino"] + self.config.model.dtype + kind
        content = hashlib.sha256(np.ascontiguousarray(trajectory.frames).tobytes() + model.encode()).hexdigest()

        def fill(folder: Path) -> None:
            save_file({"features": self._features(trajectory, kind)}, folder / "features.safetensors")

        folder = make_once(cache_dir("score_features", content[:32]), fill)
        return load_file(folder / "features.safetensors")["features"]

    def _features(self, trajectory: Trajectory, kind: str) -> np.ndarray:
        chunks = np.array_split(trajectory.frames, -(-len(trajectory.frames) // CHUNK))
        asked = [self.bridge.call(kind, chunk) for chunk in chunks]
        return np.concatenate([answer.result() for answer in asked]).astype(np.float32)

    def embed_all(self, trajectories: list[Trajectory], fb: Mapping[str, Any]) -> list[np.ndarray]:
        """:meth:`embed` of many, with a bar where they are not in the cache."""
        bar = tqdm(trajectories, unit="episode", desc="embedding frames", mininterval=1, delay=2, leave=False)
        return [self.embed(trajectory, fb) for trajectory in bar]

    def fb_episodes(self, mixed: bool) -> list[Trajectory]:
        """Episodes for the offline networks' training; see :func:`trajectories.fb_set`."""
        return fb_set(self.config, mixed, self.say)

    @cached_property
    def run_objective(self) -> str:
        """What the run's forward-backward networks are trained on; '' where there is no run or it has none."""
        return "" if self.run is None else fb_objective(self.config)

    @cached_property
    def agent(self) -> Any:
        """The run's trained agent.

        Raises:
            UserError: The run has saved no checkpoint.
        """
        from genreward_jax.evaluation.policy import load

        self.say("Loading the run's networks ...")
        return load(str(self.run)).agent

    def peak_memory(self) -> float:
        """Most bytes that the model process has held at once, and that of a user's own rewards; NaN if unreadable."""
        if self._bridge is None:
            return 0.0
        about = self._bridge.describe()
        try:
            return sum(_peak(process["pid"]) for process in (about, about.get("guests")) if process)
        except (OSError, StopIteration):
            return float("nan")

    def notes(self) -> list[str]:
        """What a reader of the numbers must know about the models."""
        trained = self._bridge is None or self._bridge.describe()["trained"]
        found = [] if trained else ["RANDOM weights: the models' numbers mean nothing."]
        if self._enlarged:
            what = ", ".join(sorted(self._enlarged))
            found.append(
                f"The frames of {what} episodes were kept smaller than the {self.bridge.frame_size} pixels that the "
                "models want, and were enlarged: in training rewards see sharper ones."
            )
        return found

    def close(self) -> None:
        """Ends the model process."""
        if self._bridge is not None:
            self._bridge.close()


def _peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024.0 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
