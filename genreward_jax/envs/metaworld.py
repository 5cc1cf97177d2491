"""Meta-World's 50 tasks as environments in embodied's manner: dictionaries of arrays, row by row.

A row at step t holds the observation at t and the reward of the action before it; row 0 is the reset. All counts
are agent steps; with an action repeat of r each is r steps of the simulator.
"""

import difflib
from collections.abc import Sequence
from typing import Any

import elements
import numpy as np

from genreward_jax import windows
from genreward_jax.envs import frame_slots as slots_lib
from genreward_jax.envs import rendering
from genreward_jax.errors import UserError
from genreward_jax.rewards.base import Schedule

TASKS = tuple(
    """
    assembly basketball bin_picking box_close button_press button_press_topdown button_press_topdown_wall
    button_press_wall coffee_button coffee_pull coffee_push dial_turn disassemble door_close door_lock door_open
    door_unlock drawer_close drawer_open faucet_close faucet_open hammer hand_insert handle_press
    handle_press_side handle_pull handle_pull_side lever_pull peg_insert_side peg_unplug_side pick_out_of_hole
    pick_place pick_place_wall plate_slide plate_slide_back plate_slide_back_side plate_slide_side push push_back
    push_wall reach reach_wall shelf_place soccer stick_pull stick_push sweep sweep_into window_close window_open
    """.split()
)
REWARDS = ("dense", "sparse", "none")
CAMERAS = ("topview", "corner", "corner2", "corner3", "corner4", "behindGripper", "gripperPOV")
CORNER2 = (0.75, 0.075, 0.7)  # metres; nearer to the table than Meta-World's own, as the field uses it


def check_task(name: str) -> str:
    """The task's underscore name; 'metaworld_shelf_place' and 'shelf-place-v3' are understood too.

    Raises:
        UserError: No such task, with the nearest names.
    """
    plain = name.removeprefix("metaworld_").removesuffix("-v3").replace("-", "_")
    if plain in TASKS:
        return plain
    near = difflib.get_close_matches(plain, TASKS, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"the tasks are {', '.join(TASKS)}."
    raise UserError(f"Meta-World has no task '{name}'; {hint}")


def check_camera(name: str) -> str:
    """The camera's name.

    Raises:
        UserError: Meta-World's scenes have no such camera, with the list.
    """
    if name not in CAMERAS:
        raise UserError(f"Meta-World has no camera '{name}'; its cameras are {', '.join(CAMERAS)}.")
    return name


def make_simulator(task: str, max_steps: int) -> Any:
    """Meta-World's own environment of a task with reward v2, whose reset draws a new place for object and goal.

    ``MT1`` draws 50 places once and plays those; here each reset draws one from ``env.np_random``.

    Args:
        task: Underscore name.
        max_steps: Simulator steps an episode may take; it raises after that many.

    Raises:
        UserError: OpenGL does not work here.
    """
    rendering.gl_context()  # before MuJoCo is imported, which loads OpenGL as well and says nothing that helps
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    sim = ALL_V3_ENVIRONMENTS[check_task(task).replace("_", "-") + "-v3"](reward_function_version="v2")
    sim._set_task_called = True
    sim._freeze_rand_vec = False  # draw at each reset ...
    sim.seeded_rand_vec = True  # ... from sim.np_random and not from NumPy's global state
    sim._partially_observable = False  # the scripted experts read the goal from the state vector, as in MT1
    del sim.sawyer_observation_space  # cached from when the goal was hidden
    sim.max_path_length = max_steps + 1
    return sim


class Scene:
    """What one of the simulator's cameras sees, upright, with goal markers where the simulator means them to be.

    Args:
        sim: From :func:`make_simulator`; its camera ``corner2`` is moved to the field's place.
        camera: One of :data:`CAMERAS`.
        quality: fast, full or auto.
        largest: (height, width) of the largest picture that will be asked for.
    """

    def __init__(self, sim: Any, camera: str, quality: str, largest: tuple[int, int]) -> None:
        self._sim = sim
        model = sim.model
        if camera == "corner2":
            model.camera("corner2").pos = CORNER2
        # Meta-World mounts its corner cameras upside down: the picture's upward axis points to the floor.
        number = rendering.camera_id(model, camera)
        self._turned = bool(sim.data.cam_xmat[number].reshape(3, 3)[2, 1] < -0.1)
        self._renderer = rendering.Renderer(model, camera, largest, quality)

    def update(self) -> None:
        """Brings bodies and goal markers to where they are now, without touching the physics."""
        import mujoco

        sim = self._sim
        # A reset moves bodies in the model and leaves the drawn places behind; each step puts the goal's marker
        # right and then computes all places again, which undoes it for some tasks.
        mujoco.mj_kinematics(sim.model, sim.data)
        mujoco.mj_comPos(sim.model, sim.data)
        mujoco.mj_camlight(sim.model, sim.data)
        for name, place in sim._target_site_config:
            # pick-out-of-hole names the object's first place here, which would hide the goal.
            sim._set_pos_site(name, sim._target_pos if name == "goal" else place)
        self._renderer.update(sim.data)

    def draw(self, height: int, width: int) -> np.ndarray:
        """Picture as of the last :meth:`update`, uint8 (height, width, 3)."""
        return self._renderer.draw(height, width, self._turned)

    def close(self) -> None:
        """Frees the renderer."""
        self._renderer.close()


class MetaWorld:
    """One Meta-World task.

    Episode number k of an environment depends on (task, seed, k) and on the actions in it, and on nothing else: not
    on the episodes before, nor on the process.

    Args:
        task: One of :data:`TASKS`.
        size: (height, width) of the agent's image in pixels.
        camera: One of the simulator's cameras; ``corner2`` is moved to the field's usual place. A camera that is
            mounted upside down is turned upright.
        repeat: Simulator steps per agent step; their rewards are summed.
        length: Agent steps after which an episode ends (by time, not terminal).
        reward: dense (v2, 0 to 10 a simulator step), sparse (dense at every ``sparse_every``-th step, 0 between) or
            none (0). ``log/reward_dense`` is always dense.
        end_on_success: End the episode, as terminal, at the first success.
        quality: fast, full or auto, see :func:`rendering.resolve_quality`.
        seed: Stream of episodes.
        frame_size: Height and width of the frames that a reward wants; 0 or the image's own size: none are made.
        frame_schedules: Which steps' frames are wanted, see :func:`windows.looks_at`.
        frame_slots: Name of the :class:`frame_slots.FrameSlots` (of ``frame_size``) they are put into.

    Raises:
        UserError: A wrong task, camera, reward, quality or number, or an OpenGL that does not work.
    """

    def __init__(
        self,
        task: str,
        *,
        size: tuple[int, int] = (64, 64),
        camera: str = "corner2",
        repeat: int = 1,
        length: int = 256,
        reward: str = "dense",
        sparse_every: int = 64,
        end_on_success: bool = False,
        quality: str = "auto",
        seed: int = 0,
        frame_size: int = 0,
        frame_schedules: Sequence[Schedule] = (),
        frame_slots: str = "",
    ) -> None:
        self._task = check_task(task)
        if reward not in REWARDS:
            raise UserError(f"Environment reward '{reward}' is unknown; it can be {', '.join(REWARDS)}.")
        counts = dict(height=size[0], width=size[1], repeat=repeat, length=length, sparse_every=sparse_every)
        for name, value in counts.items():
            if int(value) != value or value < 1:
                raise UserError(f"Meta-World's {name} is {value}; it must be a whole number of 1 or more.")
        self._size = (int(size[0]), int(size[1]))
        self._repeat, self._length = int(repeat), int(length)
        self._reward, self._sparse_every = reward, int(sparse_every)
        self._end_on_success = end_on_success
        self._seed = int(seed)
        self._wants_frames = frame_size > 0 and (frame_size, frame_size) != self._size
        self._frame_size = int(frame_size)
        self._slots: slots_lib.FrameSlots | None = None
        if self._wants_frames:
            self._schedules = tuple(frame_schedules)
            self._slots = slots_lib.FrameSlots.attach(frame_slots, self._frame_size)
        self._sim = make_simulator(self._task, self._length * self._repeat)
        largest = self._size
        if self._wants_frames:
            largest = tuple(max(side, self._frame_size) for side in self._size)
        self._scene = Scene(self._sim, camera, quality, largest)
        self.state: np.ndarray | None = None  # the simulator's state vector, float64 (39,), for scripted experts
        self._episode = -1
        self._step = 0
        self._done = True

    @property
    def obs_space(self) -> dict[str, elements.Space]:
        spaces = {
            "image": elements.Space(np.uint8, (*self._size, 3)),
            "reward": elements.Space(np.float32),
            "is_first": elements.Space(bool),
            "is_last": elements.Space(bool),
            "is_terminal": elements.Space(bool),
            "reward_env": elements.Space(np.float32),
            "log/reward_dense": elements.Space(np.float32),
            "log/success": elements.Space(np.float32),
        }
        if self._wants_frames:
            spaces["frame_slot"] = elements.Space(np.int32)
        return spaces

    @property
    def act_space(self) -> dict[str, elements.Space]:
        return {"action": elements.Space(np.float32, (4,), -1, 1), "reset": elements.Space(bool)}

    def step(self, action: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Plays one agent step, or starts an episode where ``reset`` is set or the last one has ended."""
        if action["reset"] or self._done:
            return self._reset()
        command = np.asarray(action["action"], np.float32)
        if command.shape != (4,) or not np.isfinite(command).all():
            raise ValueError(f"an action is four finite numbers in [-1, 1], not {command}")
        command = np.clip(command, -1, 1)
        dense, success = 0.0, False
        for _ in range(self._repeat):
            self.state, reward, _, _, info = self._sim.step(command)
            dense += float(reward)
            success = success or bool(info["success"])
        self._step += 1
        terminal = self._end_on_success and success
        self._done = terminal or self._step >= self._length
        return self._row(dense, success, terminal)

    def seek(self, seed: int) -> None:
        """Makes the next episode the first of another seed, as a new environment would begin it."""
        self._seed, self._episode, self._done = int(seed), -1, True

    def close(self) -> None:
        """Frees the renderer and lets go of the frame slots; the environment cannot be used after it."""
        self._scene.close()
        if self._slots is not None:
            self._slots.close()
            self._slots = None

    @property
    def simulator(self) -> Any:
        """Meta-World's own environment, for scripted experts and tests."""
        return self._sim

    def _reset(self) -> dict[str, np.ndarray]:
        self._episode += 1
        self._step, self._done = 0, False
        # A generator for each episode, so that what was played before does not move what comes next.
        self._sim.np_random = np.random.default_rng([self._seed, self._episode])
        self.state, _ = self._sim.reset()
        return self._row(0.0, False, False)

    def _row(self, dense: float, success: bool, terminal: bool) -> dict[str, np.ndarray]:
        paid = {"dense": True, "sparse": self._step % self._sparse_every == 0, "none": False}[self._reward]
        reward = np.float32(dense if paid else 0.0)
        self._scene.update()
        row = {
            "image": self._scene.draw(*self._size),
            "reward": reward,
            "is_first": np.bool_(self._step == 0),
            "is_last": np.bool_(self._done),
            "is_terminal": np.bool_(terminal),
            "reward_env": reward,
            "log/reward_dense": np.float32(dense),
            "log/success": np.float32(success),
        }
        if self._wants_frames:
            row["frame_slot"] = np.int32(self._write_frame())
        return row

    def _write_frame(self) -> int:
        """Draws and hands over this step's large frame where it will be sampled; its slot's number, or -1."""
        if not any(windows.looks_at(schedule, self._step, self._length) for schedule in self._schedules):
            return -1
        return self._slots.write(self._scene.draw(self._frame_size, self._frame_size))
