"""The generative reward of a run: its bridge, its goal, its frame slots and the shaper they serve."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import elements
import numpy as np

from genreward_jax import frame_states, parts
from genreward_jax.cache import cache_dir
from genreward_jax.envs.frame_slots import FrameSlots
from genreward_jax.errors import UserError
from genreward_jax.fb import settings as fb_settings
from genreward_jax.generating import key_prompts
from genreward_jax.goal_video import expert_ends, goal_video
from genreward_jax.methods import Term
from genreward_jax.rewards.base import Schedule
from genreward_jax.shaping import RewardShaper
from genreward_jax.suites import rows_show
from genreward_jax.video import fit
from genreward_jax.windows import resolved

SLOTS = 8  # a frame is fetched with its row, so only rows on their way hold one


@dataclass
class Rewarding:
    """What :func:`make_rewarding` made; :meth:`close` ends the bridge and frees the shared memory."""

    terms: list[Term]
    shaper: RewardShaper
    bridge: Any = None
    goal: Any = None
    goal_video: np.ndarray | None = None
    goal_source: str = ""
    slots: list[FrameSlots] = field(default_factory=list)
    env_settings: list[dict[str, Any]] = field(default_factory=list)
    fb_goal: np.ndarray | None = None  # what FB is told of the goal

    def close(self) -> None:
        if self.bridge is not None:
            self.bridge.close()
        for slots in self.slots:
            slots.close()
            slots.unlink()


def bridge_spec(config: elements.Config, log_path: Path | None) -> Any:
    """The bridge's settings from the flags; importing the client imports no torch."""
    from torch_bridge.client import BridgeSpec

    return BridgeSpec(
        family=config.model.family,
        dtype=config.model.dtype,
        revision=config.model.revision,
        device=config.bridge.device,
        python=config.bridge.python,
        threads=config.bridge.threads,
        timeout=config.bridge.timeout,
        log_path=str(log_path) if log_path else None,
        models={kind: config.model[kind] for kind in ("video_text", "diffusion") if config.model[kind]},
    )


def make_bridge(spec: Any, capabilities: set[str], own_rewards: bool, say: Callable[[str], None]) -> Any:
    """The bridge, not started: with rewards of a user's own and another interpreter, these alone run under that."""
    from torch_bridge.client import Bridge
    from torch_bridge.guests import BridgeWithGuests

    made = BridgeWithGuests if own_rewards and spec.python else Bridge
    return made(spec, capabilities, on_event=say)


def models_config(config: elements.Config, own_rewards: bool) -> elements.Config:
    """The configuration as it holds for the models: beside rewards of a user's own they keep our interpreter."""
    return config.update({"bridge.python": ""}) if own_rewards else config


def make_rewarding(
    config: elements.Config,
    terms: list[Term],
    folder: Path,
    say: Callable[[str], None] = print,
    meanwhile: Callable[[], None] = lambda: None,
) -> Rewarding:
    """Starts the bridge, makes or finds the goal, and builds the shaper around them.

    Without terms there is neither bridge nor goal: the shaper leaves rewards as they are, and the goal video is only
    there to be looked at.

    Args:
        config: The run's configuration.
        terms: The method's summands.
        folder: The run directory; the bridge's log goes there.
        say: Told what takes a while.
        meanwhile: Called once, while the model process starts; what it raises ends the bridge.
    """
    say("Looking for the goal video ...")
    own_rewards = not all(term.ours for term in terms)
    try:
        video = goal_video(models_config(config, own_rewards), say, kept=folder / "goal" / "generated")
    except UserError:
        if terms or config.goal.source not in ("generated", "expert"):
            raise
        meanwhile()
        return Rewarding(terms, RewardShaper([]), goal_source="none: it could not be made, and nothing needs it")
    wait = bool(config.run.deterministic)
    shown = fit(video.frames, 256)
    if not terms:
        meanwhile()
        return Rewarding(terms, RewardShaper([]), goal_video=shown, goal_source=video.source)
    from genreward_jax.goals import make_goal
    from torch_bridge.client import RewardSpec
    from torch_bridge.families import resolve

    resolve(config.model.family, config.model.revision, say)  # a family that there is not is said before all else
    guests_apart = own_rewards and bool(config.bridge.python)  # what they need is loaded there
    needed = {need for term in terms if term.ours or not guests_apart for need in term.reward_class().needs}
    say("Starting the model process (torch) ...")
    for_goal = {"embed_image", "embed_text", "embed_state", frame_states.capability(fb_settings.resolve(config.fb))}
    bridge = make_bridge(bridge_spec(config, folder / "bridge.log"), needed | for_goal, own_rewards, say)
    bridge.start(wait=False)
    rewarding = Rewarding(terms, RewardShaper([]), bridge, goal_video=shown, goal_source=video.source)
    try:
        meanwhile()
        bridge.describe()
        goal = make_goal(
            video.frames,
            video.fps,
            video.source,
            key_prompts(config),
            bridge,
            size=bridge.frame_size,
            frames=config.reward.frames,
            rank=config.goal.rank,
            cache_dir=cache_dir("goals"),
            say=say,
        )
        goal.generated = str(video.folder or "")
        rewarding.goal = goal
        for term in terms:
            if term.reward_class().runs_in == "bridge":
                bridge.add_reward(term.name, RewardSpec(term.path, goal, dict(term.settings)))
        every, annotate = parts.dino_every(config, terms), {}
        fb = fb_settings.resolve(config.fb)
        if parts.uses_fb(terms):
            rewarding.fb_goal = fb_goal(config, goal, bridge.call)
        if every:  # rows of the replay are embedded as the goal was
            needed |= {frame_states.capability(fb)}
            annotate = {"annotate": frame_states.annotator(bridge.call, every, fb)}
        bridge.release(needed)
        _add_slots(rewarding, config, bridge.frame_size)
        rewarding.shaper = RewardShaper(
            terms,
            bridge.pay,
            frame_count=config.reward.frames,
            frame_of=partial(_take, rewarding.slots) if rewarding.slots else None,
            max_pending_rows=config.reward.max_pending_rows,
            wait=wait,
            tell=bridge.tell,
            goal=goal,
            keep_frames=bool(config.replay.reward_frames),
            say=say,
            **annotate,
        )
    except BaseException:
        rewarding.close()
        raise
    return rewarding


def fb_goal(config: elements.Config, goal: Any, call: Callable[[str, np.ndarray], Future]) -> np.ndarray:
    """What FB is told of the goal; see :func:`frame_states.goal_states`. ``call`` is the bridge's."""
    fb = fb_settings.resolve(config.fb)
    ends = expert_ends(config) if fb["goal"] == "end" else []
    suite, _ = parts.split_task(config.task)
    return frame_states.goal_states(goal, ends, call, fb, min(config.env[suite].size))


def frame_schedules(terms: list[Term], frames: int) -> tuple[Schedule, ...]:
    """Schedules of the terms that look at frames: an environment draws large frames for these and no others."""
    looking = [term for term in terms if term.reward_class().wants_frames]
    return tuple({resolved(term.reward_class()(None, **term.settings).schedule(), frames): None for term in looking})


def _take(slots: list[FrameSlots], worker: int, slot: int) -> np.ndarray:
    return slots[worker].take(slot)


def _add_slots(rewarding: Rewarding, config: elements.Config, frame_size: int) -> None:
    """Shared memory for large frames, only where a reward wants frames of another size than the agent's image."""
    wanted = any(term.reward_class().wants_frames for term in rewarding.terms)
    if not wanted or rows_show(config, frame_size):
        return
    schedules = frame_schedules(rewarding.terms, config.reward.frames)
    for _ in range(config.run.envs):
        slots = FrameSlots.create(frame_size, SLOTS)
        rewarding.slots.append(slots)
        rewarding.env_settings.append(
            {
                "frame_size": frame_size,
                "frame_schedules": schedules,
                "frame_slots": slots.name,
            }
        )
