"""Real Meta-World episodes: rows, seeds, rewards, limits, success, and the frames handed over for rewards."""

import json

import numpy as np
import pytest

from genreward_jax import windows
from genreward_jax.envs.frame_slots import FrameSlots
from genreward_jax.envs.metaworld import TASKS, MetaWorld, check_task, make_simulator
from genreward_jax.errors import UserError
from genreward_jax.rewards.base import Schedule
from tests.envs.playing import act, digest, finish, images, play, run_python, start_python


@pytest.fixture
def make():
    """MetaWorld that is closed after the test."""
    made = []

    def build(task: str = "reach", **settings) -> MetaWorld:
        made.append(MetaWorld(task, **{"quality": "fast", **settings}))
        return made[-1]

    yield build
    for env in made:
        env.close()


def test_the_names_are_those_of_the_installed_meta_world():
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    theirs = {name.removesuffix("-v3").replace("-", "_") for name in ALL_V3_ENVIRONMENTS}
    assert len(TASKS) == 50 and set(TASKS) == theirs


@pytest.mark.parametrize("name", ["shelf_place", "metaworld_shelf_place", "shelf-place-v3", "shelf-place"])
def test_a_task_is_understood_in_several_spellings(name):
    assert check_task(name) == "shelf_place"


@pytest.mark.parametrize("wrong,near", [("shelf_plase", "shelf_place"), ("door", "door_open"), ("xyzzy", "assembly")])
def test_an_unknown_task_is_answered_with_the_nearest_ones(wrong, near):
    with pytest.raises(UserError, match=f"no task '{wrong}'.*{near}"):
        check_task(wrong)


@pytest.mark.parametrize(
    "settings,sentence",
    [
        ({"task": "shelf_plase"}, "did you mean shelf_place"),
        ({"camera": "corner9"}, "Camera 'corner9' is unknown; this task has topview, corner, corner2"),
        ({"reward": "shaped"}, "reward 'shaped' is unknown; it can be dense, sparse, none"),
        ({"quality": "best"}, "quality 'best' is unknown"),
        ({"length": 0}, "length is 0"),
        ({"repeat": 1.5}, "repeat is 1.5"),
        ({"size": (0, 64)}, "height is 0"),
        ({"sparse_every": 0}, "sparse_every is 0"),
    ],
)
def test_a_wrong_setting_is_answered_with_a_sentence(make, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        make(**settings)


def test_each_row_lies_in_the_spaces(make):
    env = make("shelf_place", size=(48, 80))
    rows = play(env, 3)
    assert rows[0]["is_first"] and not any(row["is_first"] for row in rows[1:])
    assert rows[0]["reward"] == 0
    for row in rows:
        assert set(row) == set(env.obs_space)
        for key, space in env.obs_space.items():
            assert row[key] in space and row[key].dtype == space.dtype, key
    assert env.act_space["action"].shape == (4,) and env.act_space["reset"].dtype == bool


def test_a_non_finite_action_is_refused(make):
    env = make()
    env.step(act(reset=True))
    with pytest.raises(ValueError, match="finite"):
        env.step(act([0, 0, np.nan, 0]))


def test_the_same_seed_plays_the_same_episodes_here_and_in_another_process(make):
    code = (
        "from tests.envs.playing import *; from genreward_jax.envs.metaworld import MetaWorld\n"
        "env = MetaWorld('shelf_place', seed=5, quality='fast'); print(digest(play(env, 4) + play(env, 4)))"
    )
    env = make("shelf_place", seed=5)
    here = play(env, 4) + play(env, 4)
    assert run_python(code) == digest(here)
    assert digest(here[:5]) != digest(here[5:]), "a new episode must draw new places"
    assert digest(play(make("shelf_place", seed=6), 4)) != digest(here[:5])


def test_an_episode_depends_on_its_number_and_not_on_what_was_played_before(make):
    one, other = make("push", seed=2), make("push", seed=2)
    play(one, 7, seed=0)
    play(other, 2, seed=1)
    assert digest(play(one, 3, seed=3)) == digest(play(other, 3, seed=3))


def test_many_episodes_draw_many_places():
    """MT1 would repeat itself after 50; here each reset draws anew, for goal and object."""
    sim = make_simulator("pick_place", 1)
    places = set()
    for episode in range(60):
        sim.np_random = np.random.default_rng([0, episode])
        sim.reset()
        places.add(tuple(np.round(np.concatenate([sim.obj_init_pos, sim._target_pos]), 6)))
    assert len(places) == 60


def test_an_action_repeat_sums_rewards_and_shows_the_last_picture(make):
    once, twice = make("drawer_close", seed=1), make("drawer_close", seed=1, repeat=2)
    once.step(act(reset=True)), twice.step(act(reset=True))
    rng = np.random.default_rng(0)
    for _ in range(4):
        command = rng.uniform(-1, 1, 4)
        first, second, both = once.step(act(command)), once.step(act(command)), twice.step(act(command))
        assert both["reward"] == pytest.approx(first["reward"] + second["reward"], rel=1e-6)
        assert both["log/reward_dense"] == both["reward"] == both["reward_env"]
        np.testing.assert_array_equal(both["image"], second["image"])


@pytest.mark.parametrize("kind", ["sparse", "none"])
def test_sparse_and_no_reward_keep_the_dense_one_in_the_log(make, kind):
    dense = play(make("reach", seed=1), 9)
    rows = play(make("reach", seed=1, reward=kind, sparse_every=4), 9)
    for step, (row, full) in enumerate(zip(rows, dense, strict=True)):
        assert row["log/reward_dense"] == full["reward"]
        expected = full["reward"] if kind == "sparse" and step % 4 == 0 else 0.0
        assert row["reward"] == row["reward_env"] == np.float32(expected)
    assert dense[4]["reward"] > 0


def test_an_episode_ends_by_time_far_beyond_the_simulators_own_limit(make):
    env = make("reach", length=130, repeat=4, size=(16, 16))  # 520 simulator steps; Meta-World's own limit is 500
    for _ in range(2):
        rows = play(env, 130)
        assert [row["is_last"] for row in rows] == [False] * 130 + [True]
        assert not any(row["is_terminal"] for row in rows)
    assert env.step(act([1, 1, 1, 1]))["is_first"], "after the end the next row is a reset, asked for or not"


def expert_rows(env: MetaWorld, steps: int) -> list[dict[str, np.ndarray]]:
    from metaworld.policies import ENV_POLICY_MAP

    policy = ENV_POLICY_MAP["drawer-close-v3"]()
    rows = [env.step(act(reset=True))]
    while len(rows) <= steps and not rows[-1]["is_last"]:
        rows.append(env.step(act(np.clip(policy.get_action(env.state), -1, 1))))
    return rows


@pytest.mark.filterwarnings("ignore:Constant")
def test_success_is_the_simulators_and_ends_an_episode_only_where_asked(make):
    rows = expert_rows(make("drawer_close", seed=1, size=(16, 16)), 100)
    success = np.array([row["log/success"] for row in rows])
    first = int(success.argmax())
    assert success.dtype == np.float32 and success[0] == 0 and 5 < first < 100 and len(rows) == 101
    ended = expert_rows(make("drawer_close", seed=1, size=(16, 16), end_on_success=True), 100)
    assert len(ended) == first + 1
    assert ended[-1]["is_last"] and ended[-1]["is_terminal"] and ended[-1]["log/success"] == 1
    assert not any(row["is_terminal"] or row["is_last"] for row in ended[:-1])


ALONE = """
import sys, numpy as np
from tests.envs.playing import images, play
from genreward_jax.envs.metaworld import MetaWorld
np.save(sys.argv[2], images(play(MetaWorld(sys.argv[1], seed=3, quality='fast'), 12)))
"""


def test_environments_at_once_show_their_own_scenes(make, tmp_path):
    """Side by side in two processes, and in turns in one process: each as if it were alone."""
    tasks = ("shelf_place", "door_open")
    running = [start_python(ALONE, task, str(tmp_path / f"{task}.npy")) for task in tasks]
    here = [make(task, seed=3) for task in tasks]
    rng = np.random.default_rng(0)
    commands = [act(reset=True)] + [act(rng.uniform(-1, 1, 4)) for _ in range(12)]
    turns = [[env.step(command)["image"] for env in here] for command in commands]
    for process in running:
        finish(process)
    apart = [np.load(tmp_path / f"{task}.npy") for task in tasks]
    for i in range(2):
        np.testing.assert_array_equal(np.stack([pair[i] for pair in turns]), apart[i])
    assert np.abs(apart[0].astype(int) - apart[1]).mean() > 5, "two tasks look different"
    assert (apart[0][1:] != apart[0][:-1]).any((1, 2, 3)).all(), "every step changes the picture"


WITH_FRAMES = """
import sys, json
from tests.envs.playing import play
from genreward_jax.envs.metaworld import MetaWorld
from genreward_jax.rewards.base import Schedule
env = MetaWorld('shelf_place', seed=4, quality='fast', length=40, frame_size=96, frame_slots=sys.argv[1],
                frame_schedules=[Schedule('every', 16, frames=5), Schedule('end', frames=3)])
assert env.obs_space['frame_slot'].dtype == 'int32'
print(json.dumps([int(row['frame_slot']) for row in play(env, 40)]))
env.close()
"""


def test_sampled_frames_of_another_size_come_through_shared_memory(make):
    """A model that wants 96x96 gets them at the sampled steps of full windows, as a direct render shows them."""
    slots = FrameSlots.create(96, 64)
    try:
        numbers = json.loads(run_python(WITH_FRAMES, slots.name))
        sampled = windows.sampled_steps(16, 5)
        # Windows are steps 1..16 and 17..32; the third would end at 48, after the episode's last step. The reward that
        # is paid at the end sees three frames of 1..40.
        wanted = {16 * k + offset for k in (0, 1) for offset in sampled} | {1, 21, 40}
        assert [step for step, slot in enumerate(numbers) if slot >= 0] == sorted(wanted)
        large = images(play(make("shelf_place", seed=4, length=40, size=(96, 96)), 40))
        assert slots.full == len(wanted) == 11  # both look at step 1
        for step, slot in enumerate(numbers):
            if slot >= 0:
                np.testing.assert_array_equal(slots.take(slot), large[step])
        assert slots.full == 0
    finally:
        slots.unlink()


def test_frames_of_the_images_own_size_need_no_slots(make):
    env = make(size=(64, 64), frame_size=64, frame_schedules=[Schedule("every", 16, frames=4)])
    assert "frame_slot" not in env.obs_space and "frame_slot" not in env.step(act(reset=True))


@pytest.mark.parametrize("task,site", [("sweep", "goal"), ("pick_out_of_hole", "goal"), ("disassemble", "pegTop")])
def test_the_goals_marker_is_drawn_at_the_goal(make, task, site):
    """Meta-World's step puts the marker right and then computes all places again, which undoes it for some tasks."""
    env = make(task, size=(16, 16))
    for row in (env.step(act(reset=True)), env.step(act())):
        where = env.simulator.data.site(site).xpos
        np.testing.assert_allclose(where, env.simulator._target_pos, err_msg=f"is_first {row['is_first']}")


def test_drawing_does_not_touch_the_physics(make):
    env = make("pick_out_of_hole", seed=0)
    sim = make_simulator("pick_out_of_hole", 10)
    sim.np_random = np.random.default_rng([0, 0])
    sim.reset()
    rows, rng = play(env, 8), np.random.default_rng(0)
    for row in rows[1:]:
        state, reward, *_ = sim.step(rng.uniform(-1, 1, 4).astype(np.float32))
        assert row["log/reward_dense"] == np.float32(reward)
    np.testing.assert_array_equal(state, env.state)
