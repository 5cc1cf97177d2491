"""Pictures of r_FB over actions: one for each networks object, of the state that the documentation says."""

from types import SimpleNamespace

import numpy as np
import pytest

from genreward_jax.figures import fb_actions
from genreward_jax.score import actions
from tests.score.small import FakeNetworks, episode


class Deterministic(FakeNetworks):
    """F sees the world model's state."""

    def at(self, trajectory, step):
        return None


@pytest.fixture
def context():
    """Knows a goal, and keeps what it says in ``said``."""
    goal = SimpleNamespace(key_frame=np.full((8, 8, 3), 90, np.uint8))
    said = []
    return SimpleNamespace(goal=lambda: goal, say=said.append, said=said)


@pytest.fixture
def drawn(monkeypatch):
    """What actions_picture is given, by the file's name."""
    found = {}
    monkeypatch.setattr(
        fb_actions, "actions_picture", lambda path, *given, **more: found.update({path.name: (given, more)})
    )
    return found


def scorer(name, networks=None):
    return SimpleNamespace(name=name, networks=networks)


def test_the_state_is_a_third_of_the_way_to_the_first_success_of_the_first_expert():
    rewards = np.zeros(31)
    episodes = [episode("run", 1, rewards), episode("expert", 2, rewards, 22), episode("expert", 3, rewards, 6)]
    trajectory, step = actions.moment(episodes)
    assert (trajectory.seed, step) == (2, 7)
    assert actions.moment(episodes[:1])[1] == 10  # of 30 steps without success
    assert actions.moment([episode("random", 4, rewards), episode("noisy1", 5, rewards, 3)])[0].seed == 4


def test_networks_that_rewards_share_are_drawn_once_and_for_the_own_goal(tmp_path, context, drawn):
    shared, other = FakeNetworks(), FakeNetworks()
    shared.task, other.goal = "door_open", "end"  # where discrimination left them
    scorers = [scorer("video"), scorer("fb_measure", shared), scorer("genreward_plus", shared), scorer("a.b:C", other)]
    trajectory = episode("expert", 5, np.zeros(13), success_at=9)
    trajectory.actions[3] = [0.1, 0.2, 0.3, -1]
    paths = actions.draw(tmp_path, scorers, [trajectory], context)
    assert [path.name for path in paths] == list(drawn) == ["actions_fb_measure.png", "actions_a.b_C.png"]
    assert shared.asked == (trajectory, 3, "")
    (values, action), more = drawn["actions_fb_measure.png"]
    np.testing.assert_array_equal(action, trajectory.actions[3])
    np.testing.assert_array_equal(more["frames"][0][1], trajectory.frames[3])
    np.testing.assert_array_equal(more["frames"][1][1], context.goal().key_frame)
    assert values(np.ones((2, 4))).tolist() == [4, 4]
    assert "fb_measure" in more["title"] and "reach" in more["title"]
    for part in ("seed 5", "step 3 of 12, first success at 9", "key frame", "made up"):
        assert part in more["note"]
    assert "last frames" in drawn["actions_a.b_C.png"][1]["note"]


def test_a_picture_is_written_and_without_networks_there_is_none(tmp_path, context):
    trajectory = episode("expert", 5)
    (path,) = actions.draw(tmp_path, [scorer("fb_paper", FakeNetworks())], [trajectory], context)
    assert path == tmp_path / "actions_fb_paper.png" and path.stat().st_size > 5000
    assert actions.draw(tmp_path / "none", [scorer("video")], [trajectory], context) == []
    assert not (tmp_path / "none").exists() and not context.said


def test_one_number_has_no_picture_and_another_state_a_sentence(tmp_path, context, drawn):
    trajectory = episode("expert", 5)
    assert actions.draw(tmp_path, [scorer("fb_paper", Deterministic())], [trajectory], context) == []
    (said,) = context.said
    assert "fb_paper" in said and "deter" in said
    trajectory.actions = trajectory.actions[:, :1]
    assert actions.draw(tmp_path, [scorer("fb_paper", FakeNetworks())], [trajectory], context) == []
    trajectory.actions, trajectory.task = np.zeros((5, 3), np.float32), ""  # somebody's own
    assert len(actions.draw(tmp_path, [scorer("fb_paper", FakeNetworks())], [trajectory], context)) == 1
    assert drawn["actions_fb_paper.png"][1]["names"] == ["number 1", "number 2", "number 3"]
    assert len(context.said) == 1
