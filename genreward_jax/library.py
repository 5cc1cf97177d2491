"""The reward as a library: a goal and models in, then a number for each window of frames. No agent, no torch here."""

import itertools
import math
import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax import library_goals
from genreward_jax.config import read_yaml
from genreward_jax.errors import UserError
from genreward_jax.goals import Goal
from genreward_jax.methods import named_terms
from genreward_jax.progress import say
from genreward_jax.rewards.base import Payment, Window
from genreward_jax.video import fit
from genreward_jax.windows import resolved, sample_indices
from torch_bridge.client import Bridge, BridgeSpec, RewardSpec
from torch_bridge.families import resolve
from torch_bridge.hub import is_hub_id

_FOR_GOAL = {"embed_image", "embed_text", "embed_state"}
_COUNT = itertools.count()  # names in a bridge that several share


class GenReward:
    """Generative rewards of windows of frames, in plain Python.

        with GenReward("goal.mp4", prompt="a robot arm closes a drawer") as reward:
            value = reward(frames)

    The models run in a process of their own (the bridge), started here and ended by :meth:`close` or ``with``. A copy
    by ``pickle`` starts another; so does a forked process on first use; ``copy.deepcopy`` gives the same object.

    Args:
        goal: A :class:`goals.Goal`; a video file or folder of pictures; an array, uint8 (N, H, W, 3); a folder that
            ``Goal.save`` wrote (a run's ``goal``); or the name of a Meta-World task, whose goal video is made.
        models: Name, folder or hub id of a model family, or a running :class:`torch_bridge.client.Bridge`, which stays
            open at the end.
        rewards: ``'video'`` (eq. 5), another name in ``configs/methods.yaml``, or ``module:Class`` of one's own (a
            :class:`rewards.base.Reward`). A list of them, or a mapping of names to ``module:Class`` or to
            ``{'class': ..., 'weight': ..., 'settings': {...}}``, gives several at once. r_FB (eq. 9) needs the
            Dreamer agent's own networks and is refused.
        prompt: The task in words, a sentence or several: chooses the key frame (eq. 6), and for a task's goal
            replaces the words that the project has for it. A video needs one.
        source: Of a task's goal video: ``'generated'``, or ``'expert'`` for Meta-World's scripted expert.
        alpha: Weight of r_video in eq. 10, Table A; used by the Gymnasium wrappers, never by a call.
        interval: Steps between two payments (section 3.2); used by the Gymnasium wrappers, never by a call.
        frames: Frames sampled from each window and from the goal video (section 3.2).
        baseline: ``'none'`` for the paper's cosine, near 1; ``'still'`` takes off what the goal's still first frame
            scores and rescales the rest to [0, 1].
        rank: Which frame by CLIP is the key frame, 1 the best.
        video_text: Model of roboclip, a folder or hub id: X-CLIP, or a converted S3D; '' is the family's CLIP.
        diffusion: Model of tadpole, a folder or hub id of a Stable Diffusion; '' is the family's own.
        device: Of the models: auto, cpu or cuda. A bridge that is given has its own.
        threads: torch threads of the models on a CPU.
        say: Told what takes a while.

    Attributes:
        goal: The :class:`goals.Goal`.
        terms: The rewards with their weights, as :class:`methods.Term`.
        frame_size: Height and width in pixels to which frames are brought.

    Raises:
        UserError: A goal, family or reward that is not there or does not fit.
    """

    def __init__(
        self,
        goal: Any,
        models: Any = "embedded",
        *,
        rewards: str | Sequence[str] | Mapping[str, Any] = "video",
        prompt: str | Sequence[str] = "",
        source: str = "generated",
        alpha: float = 1e-2,
        interval: int = 128,
        frames: int = 16,
        baseline: str = "none",
        rank: int = 1,
        video_text: str = "",
        diffusion: str = "",
        device: str = "auto",
        threads: int = 1,
        say: Callable[[str], None] = say,
    ) -> None:
        for name, count in {"interval": interval, "frames": frames, "threads": threads}.items():
            if not isinstance(count, numbers.Real) or isinstance(count, bool) or not count >= 1 or count % 1:
                raise UserError(f"GenReward's {name} is {count}; it must be a whole number of 1 or more.")
        flags = {"alpha": alpha, "interval": int(interval), "frames": int(frames), "baseline": baseline}
        self.terms = named_terms(rewards, {**read_yaml("defaults")["reward"], **flags})
        self.frames = int(frames)
        self._schedules = {
            term.name: resolved(term.reward_class()(None, **term.settings).schedule(), self.frames)
            for term in self.terms
        }
        self._only = self.terms[0].name if isinstance(rewards, str) else ""
        self._settings = {**flags, "rewards": rewards, "device": device, "threads": int(threads), "say": say}
        others = {kind: name for kind, name in {"video_text": video_text, "diffusion": diffusion}.items() if name}
        self._settings |= others
        self._models = os.fspath(models) if isinstance(models, os.PathLike) else models
        self._closed = False
        if isinstance(self._models, str):
            if Path(self._models).is_dir() or not is_hub_id(self._models):
                resolve(self._models)  # a wrong name is said at once, not by the process
            self._bridge = None
            self._spec = BridgeSpec(self._models, device=device, threads=int(threads), models=others)
        elif others:
            raise UserError(
                f"GenReward's {' and '.join(others)} cannot be set for a bridge that is given: name them in its "
                f"BridgeSpec's models."
            )
        elif hasattr(models, "add_reward"):
            self._bridge, self._spec = models, models.spec
        else:
            raise UserError(
                f"The models are {models!r}; name a family (embedded, a folder, a hub id) or give a Bridge."
            )
        self.goal: Goal
        self._start(library_goals.find(goal, prompt, source, self._spec, say), rank)

    # --- life ---

    def _start(self, found: Any, rank: int = 1) -> None:
        """Starts the bridge, makes the goal where there is none, and puts the rewards beside the models."""
        self._owner = os.getpid()
        owned = isinstance(self._models, str)
        needs = {need for term in self.terms for need in term.reward_class().needs}
        made = isinstance(found, Goal)
        if owned:
            self._bridge = Bridge(self._spec, needs | (set() if made else _FOR_GOAL), on_event=self._settings["say"])
        try:
            if owned:
                self._bridge.start()
            self.frame_size = self._bridge.frame_size
            if not made:
                found = library_goals.make(found, self._bridge, self.frames, rank, self._settings["say"])
                if owned:
                    self._bridge.release(needs)
            self.goal = found
            wanted = (self.frames, self.frame_size, self.frame_size)
            if self.goal.frames.shape[:3] != wanted:
                raise UserError(
                    f"The goal holds (frames, height, width) {self.goal.frames.shape[:3]}, but {wanted} are asked for: "
                    "make it anew from its video."
                )
            self._add_rewards()
        except BaseException:
            self.close()
            raise

    def _add_rewards(self) -> None:
        self._in_bridge, self._here = {}, {}
        for term in self.terms:
            if term.reward_class().runs_in == "trainer":
                self._here[term.name] = term.reward_class()(self.goal, **term.settings)
                continue
            # In a bridge of the user's, another GenReward may have one of the same name and another goal.
            name = term.name if isinstance(self._models, str) else f"{term.name} {next(_COUNT)}"
            self._bridge.add_reward(name, RewardSpec(term.path, self.goal, dict(term.settings)))
            self._in_bridge[term.name] = name

    def close(self) -> None:
        """Ends the models' process, unless the bridge was given; can be called again."""
        self._closed = True
        if isinstance(self._models, str) and self._bridge is not None and self._owner == os.getpid():
            self._bridge.close()

    def __enter__(self) -> "GenReward":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def __deepcopy__(self, memo: dict) -> "GenReward":
        return self

    def __reduce__(self) -> tuple:
        if not isinstance(self._models, str):
            raise UserError("A GenReward on a given bridge cannot go to another process; give it a family's name.")
        return _rebuild, (self.goal, self._models, self._settings)

    def __repr__(self) -> str:
        names = ", ".join(term.name for term in self.terms)
        return f"GenReward({self.goal.source!r}, {self._models!r}, rewards={names})"

    # --- answers ---

    def __call__(
        self,
        frames: Any,
        *,
        actions: Any = None,
        env_rewards: Any = None,
        ended: Any = False,
        step: Any = None,
    ) -> float | np.ndarray | dict[str, Any]:
        """Unweighted value of a window of frames, or of a batch of windows.

        Args:
            frames: uint8 (T, H, W, 3), of any length and size: ``frames`` of them are sampled, the largest square is
                cut out of the middle and resized to what the models want. A batch is (B, T, H, W, 3), or a list of B
                windows of different lengths and sizes; it is answered together.
            actions: float (T, A), the action before each frame, for rewards that read it; of a batch, B of them.
            env_rewards: float (T,), the environment's own, likewise.
            ended: Whether the episode ended with the last frame, likewise.
            step: Steps since the reset at the last frame (T unless given), likewise.

        Returns:
            A float; for a batch float64 (B,). Where several rewards were asked for, a dictionary of these by name.
            NaN where a reward pays nothing.

        Raises:
            UserError: Frames of another kind, a reward that fails or gives infinity or NaN.
        """
        windows, batched = _split(frames)
        extra = {"actions": actions, "env_rewards": env_rewards, "ended": ended, "step": step}
        each = [extra]
        if batched:
            each = [{k: _nth(value, i, len(windows), k) for k, value in extra.items()} for i in range(len(windows))]
        answers = {}
        for name in self._schedules:
            asked = [self.window(window, name=name, **more) for window, more in zip(windows, each, strict=True)]
            answers[name] = [self.pay(name, window) for window in asked]
        values = {name: np.array([_number(name, a.result()) for a in given]) for name, given in answers.items()}
        result = values if batched else {name: float(value[0]) for name, value in values.items()}
        return result[self._only] if self._only else result

    def window(
        self,
        frames: Any,
        actions: Any = None,
        env_rewards: Any = None,
        ended: bool = False,
        step: int | None = None,
        name: str = "",
    ) -> Window:
        """A window as the reward ``name`` (the first) sees it: frames sampled and fitted; arguments as of a call."""
        frames = check_frames(frames)
        count, schedule = len(frames), self._schedules[name or self.terms[0].name]
        if schedule.recent:  # the first frame stands in for those before it
            seen = np.maximum(count - 1 - schedule.stride * np.arange(schedule.recent)[::-1], 0)
        else:
            seen = sample_indices(count, schedule.frames)
        sampled = fit(frames[seen], self.frame_size)
        actions = np.zeros((count, 0), np.float32) if actions is None else np.asarray(actions, np.float32)
        env_rewards = np.zeros(count, np.float32) if env_rewards is None else np.asarray(env_rewards, np.float32)
        return Window(sampled, actions, env_rewards, {}, bool(ended), count if step is None else int(step))

    def fit(self, frame: Any) -> np.ndarray:
        """One frame at the models' size: (H, W, 3) to (frame_size, frame_size, 3), uint8; a copy."""
        return fit(check_frames(np.asarray(frame)[None]), self.frame_size)[0]

    def pay(self, name: str, window: Window) -> "Future[Payment]":
        """Asks the reward ``name``; does not wait. The future's ``Payment`` also holds the reward's diagnostics."""
        if name in self._here:
            future: Future[Payment] = Future()
            future.set_result(self._here[name](window, None))
            return future
        return self._running().pay(self._in_bridge[name], window)

    def tell(self, name: str, method: str, argument: Any = None) -> Future:
        """Calls ``observe``, ``state`` or ``load`` of a reward with a memory that runs in the bridge."""
        return self._running().tell(self._in_bridge[name], method, argument)

    def _running(self) -> Any:
        if self._closed:
            raise UserError("This GenReward was closed; make another.")
        if self._owner != os.getpid():  # no thread of the bridge came along with a fork
            if not isinstance(self._models, str):
                raise UserError("A GenReward on a given bridge was taken along by a fork; give it a family's name.")
            self._start(self.goal)
        return self._bridge


def _rebuild(goal: Goal, models: str, settings: dict[str, Any]) -> GenReward:
    return GenReward(goal, models, **settings)


def check_frames(frames: Any) -> np.ndarray:
    """Frames as an array, uint8 (T, H, W, 3).

    Raises:
        UserError: Anything else.
    """
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise UserError(
            f"Frames are {frames.dtype} of shape {frames.shape}; a window is uint8 of shape (frames, height, width, 3)."
        )
    return frames


def _split(frames: Any) -> tuple[Sequence[Any], bool]:
    """The windows of a call's frames, and whether they are a batch."""
    if not hasattr(frames, "shape"):
        try:
            frames = list(frames)
        except TypeError:
            raise UserError(f"Frames are {frames!r}; a window is uint8 of shape (frames, height, width, 3).") from None
    batched = np.ndim(frames[0]) == 4 if isinstance(frames, list) and frames else np.ndim(frames) == 5
    return (frames, True) if batched else ([frames], False)


def _nth(value: Any, index: int, count: int, name: str) -> Any:
    """The part of a batch's argument that belongs to one window; a single flag or None belongs to all."""
    if value is None or np.isscalar(value):
        return value
    if len(value) != count:
        raise UserError(f"{name} has {len(value)} parts for {count} windows; give one for each.")
    return value[index]


def _number(name: str, payment: Payment) -> float:
    if not payment.values:
        return math.nan
    value = float(payment.values[-1])
    if not math.isfinite(value):
        raise UserError(f"The reward '{name}' gave {value}; look at the goal video, the frames and the models.")
    return value
