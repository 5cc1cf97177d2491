"""Plays Meta-World's scripted experts, well and badly, and draws the steps that are asked for."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from genreward_jax.demonstrations.behaviours import Actor, reset, steps_until_giving_up
from genreward_jax.envs import metaworld, rendering

LENGTH = 256  # simulator steps of an episode (section 4.1)
NEAR = 0.09  # metres between hand and object within which the gripper counts as near it


@dataclass
class Episode:
    """What was played.

    Attributes:
        task: Underscore name.
        seed: Of the places of object and goal, and of the noise.
        behaviour: One of :data:`behaviours.BEHAVIOURS`.
        steps: int64, (N,): simulator steps at which a frame was drawn; 0 is the reset.
        frames: uint8, (N, S, S, 3).
        phases: N names from :data:`captions.PHASES`, or '' where none fits.
        success_step: First step with success, -1 if there was none.
    """

    task: str
    seed: int
    behaviour: str
    steps: np.ndarray
    frames: np.ndarray
    phases: list[str]
    success_step: int


class Stage:
    """One task's simulator with a camera, on which episodes are played.

    Args:
        task: Underscore name.
        quality: fast, full or auto.
        size: Height and width of the pictures in pixels.
        camera: One of Meta-World's.
    """

    def __init__(self, task: str, quality: str = "auto", size: int = 64, camera: str = "corner2") -> None:
        self.task, self._size = metaworld.check_task(task), size
        self._sim = metaworld.make_simulator(self.task, LENGTH)
        self._scene = metaworld.Scene(self._sim, camera, rendering.resolve_quality(quality), (size, size))

    def play(self, seed: int, behaviour: str, steps: Iterable[int]) -> Episode:
        """Plays until the last of ``steps`` and draws at each of them.

        Raises:
            KeyError: No such behaviour.
        """
        wanted = sorted(set(steps))
        gives_up = steps_until_giving_up(self._sim, self.task, behaviour, seed, LENGTH)
        actor, state = Actor(self.task, behaviour, seed, gives_up), reset(self._sim, seed)
        drawn, success_step, signals = [], -1, _Signals()
        for step in range(wanted[-1] + 1):
            if step:
                state, _, _, _, info = self._sim.step(actor.act(state))
                signals.see(state, info)
                if info["success"] and success_step < 0:
                    success_step = step
            if step in wanted:
                self._scene.update()
                drawn.append((self._scene.draw(self._size, self._size), signals.phase))
        frames, phases = zip(*drawn, strict=True)
        return Episode(self.task, seed, behaviour, np.array(wanted), np.stack(frames), list(phases), success_step)

    def close(self) -> None:
        """Frees the renderer."""
        self._scene.close()


class _Signals:
    """The simulator's own signals, turned into the name of a phase."""

    def __init__(self) -> None:
        self.phase = "away"
        self._steps, self._says_grasped_always, self._succeeded = 0, False, False

    def see(self, state: np.ndarray, info: dict) -> None:
        self._steps += 1
        grasped = info.get("grasp_success", 0) > 0.5
        if self._steps == 1 and grasped:  # some tasks set it whatever happens
            self._says_grasped_always = True
        near = np.linalg.norm(state[:3] - state[4:7]) < NEAR
        if info["success"]:
            self._succeeded, self.phase = True, "done"
        elif self._succeeded:
            self.phase = ""  # done and undone again: no caption fits
        elif near and grasped and not self._says_grasped_always:
            self.phase = "held"
        else:
            self.phase = "near" if near else "away"
