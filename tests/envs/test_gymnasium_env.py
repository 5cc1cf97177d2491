"""Any Gymnasium environment as rows: what is seen and done, when episodes end, which frames reach a reward."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from genreward_jax import parts, suites
from genreward_jax.config import parse
from genreward_jax.envs.frame_slots import FrameSlots
from genreward_jax.envs.gym_look import look
from genreward_jax.envs.gym_spaces import Actions, Observations
from genreward_jax.envs.gymnasium_env import GymEnv
from genreward_jax.errors import UserError
from genreward_jax.rewards.base import Schedule
from genreward_jax.video import fit
from genreward_jax.windows import sampled_steps
from tests.envs import tiny_gym

SQUARE, BLIND = "tests.envs.tiny_gym:Square-v0", "tests.envs.tiny_gym:Blind-v0"
RIGHT = {"action": np.int32(2), "reset": np.bool_(False)}  # class 2 is the environment's action 1


def play(env, action=RIGHT, steps=40):
    """Rows of one episode."""
    rows = [env.step({**action, "reset": np.bool_(True)})]
    while not rows[-1]["is_last"] and len(rows) <= steps:
        rows.append(env.step(action))
    return rows


def test_cartpole_is_gymnasiums_own_row_by_row():
    env, plain = GymEnv("CartPole-v1", seed=3), gymnasium.make("CartPole-v1")
    for episode in range(2):
        rows = play(env, {"action": np.int32(1), "reset": np.bool_(False)})
        seed = int(np.random.SeedSequence((3, episode)).generate_state(1)[0] >> 1)
        seen, ended = [plain.reset(seed=seed)[0]], False
        while not ended:
            observation, _, ended, cut, _ = plain.step(1)
            seen.append(observation)
        np.testing.assert_array_equal(np.stack([row["vector"] for row in rows]), np.stack(seen))
        assert [bool(row["is_first"]) for row in rows] == [True] + [False] * (len(rows) - 1)
        assert rows[-1]["is_last"] and rows[-1]["is_terminal"] and not rows[-2]["is_last"]
        assert sum(float(row["reward"]) for row in rows) == len(rows) - 1
        assert np.isnan(rows[-1]["log/success"])  # CartPole says nothing of it
    for row in rows:
        for key, space in env.obs_space.items():
            assert np.asarray(row[key]).dtype == space.dtype and np.shape(row[key]) == space.shape, key
        assert set(row) == set(env.obs_space)


def test_a_dict_with_a_picture_is_named_resized_and_ends_in_success():
    env = GymEnv(SQUARE, size=(64, 64), seed=1)
    rows = play(env)
    assert set(suites.observed(env.obs_space)) - {"reward_env", "log/reward_dense", "log/success"} == {
        "image", "obs_place", "obs_side",
    }  # fmt: skip
    assert env.obs_space["obs_side"].classes == 2 and env.act_space["action"].classes == 3
    for row in rows:
        assert row["image"].shape == (64, 64, 3) and row["image"].max() == 255
        assert row["obs_place"].shape == (2,) and row["obs_side"] == (row["obs_place"][0] > 6)
    assert rows[-1]["obs_place"][0] == 12 and rows[-1]["is_terminal"] and rows[-1]["log/success"] == 1
    assert rows[-2]["log/success"] == 0 and np.isnan(rows[0]["log/success"])


def test_the_time_limit_is_no_terminal_and_so_is_ours():
    stay = {"action": np.int32(1), "reset": np.bool_(False)}
    for length, want in ((0, 20), (7, 7)):
        rows = play(GymEnv(SQUARE, length=length), stay)
        assert len(rows) == want + 1 and rows[-1]["is_last"] and not rows[-1]["is_terminal"]


def test_repeat_sums_rewards_and_stops_at_the_end():
    starts = []
    for seed in range(4):  # an end within an agent step: what comes after it is not played
        rows = play(GymEnv(SQUARE, repeat=3, seed=seed))
        starts.append(int(rows[0]["obs_place"][0]))
        assert sum(float(row["reward"]) for row in rows) == sum(range(starts[-1] + 1, 13))
    assert any((12 - start) % 3 for start in starts)
    rows = play(GymEnv(SQUARE, repeat=3, seed=0))
    start = rows[0]["obs_place"][0]
    assert rows[1]["obs_place"][0] == start + 3 and rows[1]["reward"] == 3 * start + 6
    assert rows[-1]["obs_place"][0] == 12 and rows[-1]["is_terminal"] and rows[-1]["log/success"] == 1


@pytest.mark.parametrize(("reward", "paid"), [("dense", {1, 2, 3, 4, 5}), ("sparse", {2, 4}), ("none", set())])
def test_the_environments_own_reward_can_be_sparse_or_none(reward, paid):
    rows = play(GymEnv(BLIND, reward=reward, sparse_every=2, length=5), {"action": np.zeros(3), "reset": False})
    assert {t for t, row in enumerate(rows) if row["reward"]} == paid
    assert all(row["log/reward_dense"] == 1 for row in rows[1:])


def test_episodes_depend_on_seed_and_number_only():
    one, other = GymEnv(SQUARE, seed=5), GymEnv(SQUARE, seed=5)
    one.step({**RIGHT, "reset": True})
    first = [int(play(one)[0]["obs_place"][0]) for _ in range(6)]
    other.step({**RIGHT, "reset": True})
    [other.step(RIGHT) for _ in range(2)]
    second = [int(play(other)[0]["obs_place"][0]) for _ in range(6)]
    assert first == second and len(set(first)) > 1


@pytest.mark.parametrize(
    ("kind", "given", "want"),
    [
        ("box", [-1.0, 0.0, 0.5], [-2.0, 0.5, 0.5]),
        ("box", [3.0, 1.0, -9.0], [4.0, 1.0, -1.0]),
        ("binary", [0, 1, 1], [0, 1, 1]),
        ("many", [3, 0], [3, 0]),
    ],
)
def test_actions_reach_the_environment_in_its_own_units(kind, given, want):
    env = GymEnv(BLIND, kwargs=f'{{"kind": "{kind}"}}')
    env.step({"action": np.zeros_like(given), "reset": np.bool_(True)})
    env.step({"action": np.array(given, env.act_space["action"].dtype), "reset": np.bool_(False)})
    passed = env._env.unwrapped.given[-1]
    np.testing.assert_allclose(passed, want)
    assert env._env.action_space.contains(passed)


def test_pictures_in_all_their_forms():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (32, 32, 3), np.uint8)
    forms = {
        "last": (spaces.Box(0, 255, (32, 32, 3), np.uint8), picture, picture),
        "first": (spaces.Box(0, 255, (3, 32, 32), np.uint8), np.moveaxis(picture, -1, 0), picture),
        "shares": (spaces.Box(0, 1, (32, 32, 3), np.float32), picture / np.float32(255), picture),
        "grey": (spaces.Box(0, 255, (32, 32), np.uint8), picture[..., 0], picture[..., :1].repeat(3, -1)),
        "grey1": (spaces.Box(0, 255, (32, 32, 1), np.uint8), picture[..., :1], picture[..., :1].repeat(3, -1)),
    }
    for name, (space, value, want) in forms.items():
        seen = Observations(space, (32, 32))
        np.testing.assert_array_equal(seen(value)["image"], want, err_msg=name)
        np.testing.assert_array_equal(seen.picture(value), want, err_msg=name)
    symbols = Observations(spaces.Box(0, 255, (7, 7, 3), np.uint8), (64, 64))  # MiniGrid's map is no picture
    assert symbols.spaces["vector"].shape == (147,) and not symbols.picture_shape


REFUSED = {
    "stack": (spaces.Box(0, 255, (84, 84, 4), np.uint8), "no stack of frames"),
    "tuple": (spaces.Tuple([spaces.Discrete(2)]), "is a Tuple"),
    "text": (spaces.Dict({"said": spaces.Text(5)}), "said is a Text"),
    "nothing": (spaces.Dict({}), "nothing that the agent could see"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_seen_is_refused(name):
    space, sentence = REFUSED[name]
    with pytest.raises(UserError, match=sentence):
        Observations(space, (64, 64))


def test_actions_that_cannot_be_taken_are_refused():
    with pytest.raises(UserError, match="equal sizes"):
        Actions(spaces.MultiDiscrete([4, 5]))
    with pytest.raises(UserError, match="is none that the agent can use"):
        Actions(spaces.Dict({"a": spaces.Discrete(2)}))


@pytest.mark.parametrize("pictures", [True, False])
def test_frames_for_rewards_come_from_the_picture_or_from_render(pictures):
    slots = FrameSlots.create(24, 8)
    try:
        env = GymEnv(
            SQUARE, seed=2, kwargs="{}" if pictures else '{"pictures": false}', frame_size=24,
            frame_schedules=[Schedule("every", 4, frames=2)], frame_slots=slots.name,
        )  # fmt: skip
        place, step, row = 0, 0, env.step({**RIGHT, "reset": np.bool_(True)})
        assert ("image" in row) == pictures and row["frame_slot"] == -1
        while not row["is_last"]:
            row, step = env.step(RIGHT), step + 1
            place = int(row["obs_place"][0])
            assert (row["frame_slot"] >= 0) == ((step - 1) % 4 + 1 in sampled_steps(4, 2))
            if row["frame_slot"] >= 0:
                drawn = tiny_gym.Square()
                drawn.place = place
                want = drawn.draw(0 if pictures else 40)
                np.testing.assert_array_equal(slots.take(int(row["frame_slot"])), fit(want[None], 24)[0])
        env.close()
    finally:
        slots.unlink()


def test_a_look_finds_what_the_environment_gives():
    found = look(SQUARE, (64, 64), "")
    env = GymEnv(SQUARE)
    for key, space in found.obs.items():
        mine = env.obs_space[key]
        assert (space.dtype, space.shape, space.discrete) == (mine.dtype, mine.shape, mine.discrete), key
        np.testing.assert_array_equal(space.low, mine.low)
        np.testing.assert_array_equal(space.high, mine.high)
    assert found.obs["obs_side"].classes == 2 and found.act.classes == 3
    assert found.limit == 20 and found.picture == (tiny_gym.HEIGHT, tiny_gym.WIDTH) and found.shows


def config(task, *flags):
    return parse(["--preset", "smoke", "--task", f"gym_{task}", "--reward.interval", "4", *flags])


MISTAKES = {
    "id": (["CartPol-v1"], "CartPole"),
    "module": (["no_such_module:X-v0"], "no_such_module"),
    "nothing to see": ([BLIND], "shows none: its observations hold no picture and it has no render mode"),
    "interval": ([SQUARE, "--reward.interval", "32"], "--env.gym.length"),
    "kwargs": ([SQUARE, "--env.gym.kwargs", "[1]"], "JSON object"),
    "argument": ([SQUARE, "--env.gym.kwargs", '{"colour": 1}'], "colour"),
    "size": ([SQUARE, "--env.gym.size", "50", "50"], "--env.gym.size 50 50"),
    "repeat": ([SQUARE, "--env.gym.repeat", "0"], "--env.gym.repeat is 0"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_sentences(name):
    flags, sentence = MISTAKES[name]
    with pytest.raises(UserError, match=sentence.replace("(", r"\(")):
        parts.check(config(*flags))


def test_a_task_is_known_by_its_suite():
    assert parts.split_task("gym_ALE/Pong-v5") == ("gym", "ALE/Pong-v5")
    with pytest.raises(UserError, match="has no suite that is known"):
        parts.split_task("atari_pong")
    from genreward_jax.rundir import default_logdir

    assert default_logdir(config(SQUARE)) == "runs/tests.envs.tiny_gym-Square-v0/dense/genreward/seed0"


def test_rows_show_what_a_reward_wants_only_where_they_are_square():
    assert not suites.rows_show(config(SQUARE), 64)  # 48x32: the agent's is squeezed, a reward's is cut
    assert suites.rows_show(config(SQUARE, "--env.gym.kwargs", '{"width": 48}'), 64)
    assert not suites.rows_show(config(SQUARE, "--env.gym.kwargs", '{"width": 48}'), 96)


def test_a_goal_must_be_given():
    from genreward_jax import generating, report

    with pytest.raises(UserError, match="neither an expert nor words"):
        report.check_goal_source(config(SQUARE, "--goal.source", "expert"))
    with pytest.raises(UserError, match="IMAGE="):
        report.check_goal_source(config(SQUARE, "--goal.prompt", "a square moves right"))
    report.check_goal_source(config(SQUARE, "--method", "none"))
    given = config(SQUARE, "--goal.source", "goal.mp4")
    assert generating.key_prompts(given) == generating.DONE
    given = config(SQUARE, "--goal.source", "goal.mp4", "--goal.prompt", "the square is right")
    assert generating.key_prompts(given) == ("the square is right",)
