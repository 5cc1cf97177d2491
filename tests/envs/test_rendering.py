"""Pictures are upright, of any size, the simulator's own, and a missing OpenGL is said in a sentence."""

import sys

import numpy as np
import pytest

from genreward_jax.envs import rendering
from genreward_jax.envs.metaworld import MetaWorld, make_simulator
from genreward_jax.errors import UserError
from tests.envs.playing import act, images, play, run_python

CAMERAS = ("corner", "corner2", "corner3", "corner4")


def finger(image: np.ndarray) -> np.ndarray:
    """Mean (row, column) of the gripper's cyan finger."""
    red, green, blue = image.astype(int).transpose(2, 0, 1)
    found = np.argwhere((green > 90) & (blue > 90) & (red < 0.6 * green))
    assert len(found) > 4, "the cyan finger is not in the picture"
    return found.mean(0)


def goes_right_way(pictures: dict[str, np.ndarray], right: np.ndarray) -> bool:
    """Whether the hand moved up is higher in the picture, and moved along the camera's right is further right."""
    up = finger(pictures["up"]) - finger(pictures["start"])
    side = finger(pictures["side"]) - finger(pictures["start"])
    return bool(up[0] < -4 and side[1] > 4)


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_picture_is_upright_and_not_mirrored(camera):
    """The check itself is tried on flipped pictures."""
    env = MetaWorld("reach", size=(128, 128), camera=camera, quality="fast", seed=1)
    number = rendering.camera_id(env.simulator.model, camera)
    axes = env.simulator.data.cam_xmat[number].reshape(3, 3)
    upright = 1 if axes[2, 1] > 0 else -1  # a camera mounted upside down is turned: its right becomes its left
    right = np.append(upright * axes[:2, 0] / np.linalg.norm(axes[:2, 0]), 0)
    pictures = {}
    for name, direction in {"start": (0, 0, 0), "up": (0, 0, 1), "side": right}.items():
        env.step(act(reset=True))
        pictures[name] = [env.step(act([*direction, 0])) for _ in range(12)][-1]["image"]
        env._episode = -1  # the same places again
    env.close()
    assert goes_right_way(pictures, right)
    for flip in (np.s_[::-1], np.s_[:, ::-1], np.s_[::-1, ::-1]):
        assert not goes_right_way({name: picture[flip] for name, picture in pictures.items()}, right)


def test_the_table_is_below_the_wall_and_the_robot_at_the_left():
    """The field's view of corner2, by colour: brown table below the grey wall, the red arm left of the middle."""
    env = MetaWorld("shelf_place", quality="fast")
    image = play(env, 1)[-1]["image"].astype(int)
    env.close()
    red, green, blue = image.transpose(2, 0, 1)
    arm = np.argwhere((red > 100) & (green < 60) & (blue < 60)).mean(0)
    wood = np.argwhere((red > green + 8) & (green > blue + 4) & (red < 160)).mean(0)
    wall = np.argwhere((abs(red - green) < 6) & (abs(green - blue) < 8) & (green > 110) & (green < 140)).mean(0)
    assert wall[0] < wood[0] - 15 and arm[1] < 32 < wood[1] + 10
    assert image[:8].std() < image[-8:].std() + 40


THEIRS = """
import sys, numpy as np
from genreward_jax.envs import rendering
rendering.choose_backend()
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
env = ALL_V3_ENVIRONMENTS['shelf-place-v3'](render_mode='rgb_array', camera_name='corner3', width=64, height=64)
env._set_task_called, env._freeze_rand_vec, env.seeded_rand_vec = True, False, True
env.np_random = np.random.default_rng([0, 0])
env.reset()
env.step(np.ones(4, np.float32))
np.save(sys.argv[1], env.render())
"""


def test_full_quality_is_meta_worlds_own_picture_turned_upright(tmp_path):
    run_python(THEIRS, str(tmp_path / "theirs.npy"))
    theirs = np.load(tmp_path / "theirs.npy")
    env = MetaWorld("shelf_place", camera="corner3", quality="full")
    env.step(act(reset=True))
    ours = env.step(act([1, 1, 1, 1]))["image"]
    env.close()
    np.testing.assert_array_equal(ours, theirs[::-1, ::-1])


@pytest.mark.parametrize("quality", ["fast", "full"])
def test_a_small_picture_from_a_large_buffer_is_that_of_a_small_one(quality):
    """Sizes share one framebuffer: the multisampled parts of a large one must not leak into a small picture."""
    env = MetaWorld("shelf_place", quality=quality, size=(64, 64))
    play(env, 2)
    sim = env.simulator
    large = rendering.Renderer(sim.model, "corner2", (480, 480), quality)
    large.update(sim.data)
    env._scene._renderer.update(sim.data)
    full = large.draw(480, 480)
    np.testing.assert_array_equal(large.draw(64, 64), env._scene._renderer.draw(64, 64))
    np.testing.assert_array_equal(large.draw(480, 480), full)
    large.close()
    env.close()


def test_fast_leaves_shadows_and_reflections_out_and_the_scene_as_it_is():
    pictures = {}
    for quality in ("fast", "full"):
        env = MetaWorld("shelf_place", quality=quality, size=(96, 96), seed=1)
        pictures[quality] = images(play(env, 3)).astype(int)
        flags, kinds = env._scene._renderer._scene.flags, rendering.sys.modules["mujoco"].mjtRndFlag
        assert flags[kinds.mjRND_SHADOW] == flags[kinds.mjRND_REFLECTION] == (quality == "full")
        env.close()
    difference = np.abs(pictures["fast"] - pictures["full"])
    assert 1 < difference.mean() < 20, "the same scene, lit differently"


def test_the_community_view_of_corner2_is_used():
    env = MetaWorld("reach", quality="fast")
    np.testing.assert_allclose(env.simulator.model.camera("corner2").pos, [0.75, 0.075, 0.7])
    env.close()


def test_mujoco_gl_is_respected_and_checked(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    assert rendering.choose_backend() == "egl"
    monkeypatch.setenv("MUJOCO_GL", "vulkan")
    with pytest.raises(UserError, match="MUJOCO_GL is 'vulkan'; it can be egl, osmesa, glfw"):
        rendering.choose_backend()


@pytest.mark.parametrize(
    "gpu,software,expected",
    [(True, "osmesa", "egl"), (False, "osmesa", "osmesa"), (False, "egl", "egl"), (False, "", "osmesa")],
)
def test_without_mujoco_gl_the_gpu_decides_then_what_is_installed(monkeypatch, gpu, software, expected):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering, "_nvidia_egl_works", lambda: gpu)
    monkeypatch.setattr(rendering.machine, "opengl", lambda: software)
    assert rendering.choose_backend() == expected
    assert rendering.os.environ["MUJOCO_GL"] == expected, "children hear of it"


@pytest.mark.parametrize("renderer,quality", [("llvmpipe (LLVM 15)", "fast"), ("NVIDIA H200/PCIe/SSE2", "full")])
def test_auto_quality_follows_the_renderer(monkeypatch, renderer, quality):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    answer = {"renderer": renderer, "software": rendering.is_software(renderer), "error": ""}
    monkeypatch.setattr(rendering, "probe", lambda backend: answer)
    monkeypatch.setattr(rendering.machine, "surely_no_gpu", lambda: False)
    assert rendering.resolve_quality("auto") == quality
    assert rendering.resolve_quality("full") == "full"
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert rendering.resolve_quality("auto") == "fast"


def test_where_there_is_no_gpu_nobody_asks_opengl(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(rendering, "probe", None)
    monkeypatch.setattr(rendering.machine, "surely_no_gpu", lambda: True)
    assert rendering.resolve_quality("auto") == "fast"


@pytest.mark.parametrize("backend,command", [("osmesa", "apt-get install libosmesa6"), ("egl", "MUJOCO_GL=osmesa")])
def test_a_missing_opengl_is_answered_with_the_command(monkeypatch, backend, command):
    monkeypatch.setenv("MUJOCO_GL", backend)
    monkeypatch.setattr(rendering, "_CONTEXT", {})
    monkeypatch.setitem(sys.modules, f"mujoco.{backend}", None)  # import fails, as without the library
    for draws in (rendering.gl_context, lambda: make_simulator("reach", 100)):  # before MuJoCo stumbles over it
        with pytest.raises(UserError, match=command):
            draws()


def test_the_doctor_hears_what_draws():
    info = rendering.render_info()
    assert info["error"] == "" and info["renderer"]
    assert info["backend"] == rendering.choose_backend()
    broken = rendering.probe("vulkan")
    assert broken["error"] and not broken["renderer"]


def test_a_fork_of_a_process_that_draws_is_refused():
    code = (
        "import os, sys; from genreward_jax.envs import rendering; rendering.gl_context()\n"
        "if os.fork() == 0:\n"
        "    try: rendering.gl_context()\n"
        "    except RuntimeError as error: print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()"
    )
    assert "spawn" in run_python(code)
