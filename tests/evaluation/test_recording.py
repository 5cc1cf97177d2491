"""What an evaluation keeps of its episodes is what was played, and becomes a data set with true captions."""

import elements
import embodied
import numpy as np
import pytest

from genreward_jax import config as config_lib
from genreward_jax.errors import UserError
from genreward_jax.evaluation import episodes, recording
from genreward_jax.score import given
from torch_bridge.training import video_folder


class Counting(embodied.Env):
    """Episodes of 5 steps that show the step's number; the reward is the last action's first number."""

    def __init__(self, success: bool, seen: bool = True) -> None:
        self._success, self._seen, self._step, self._done = success, seen, 0, True

    obs_space = property(lambda self: {"is_first": elements.Space(bool)})
    act_space = property(
        lambda self: {"action": elements.Space(np.float32, (4,), -1, 1), "reset": elements.Space(bool)}
    )

    def step(self, action: dict) -> dict:
        first = bool(action["reset"]) or self._done
        self._step = 0 if first else self._step + 1
        self._done = self._step == 5
        row = {
            "reward": np.float32(0 if first else action["action"][0]),
            "is_first": first,
            "is_last": self._done,
            "is_terminal": False,
            "log/success": np.float32(self._success and self._step >= 4),
        }
        return row | ({"image": np.full((32, 32, 3), 10 * self._step, np.uint8)} if self._seen else {})


class Agent:
    """Its k-th action is k / 100 four times."""

    def __init__(self) -> None:
        self.calls = 0

    def init_policy(self, count: int) -> tuple:
        return ()

    def policy(self, carry: tuple, obs: dict, mode: str) -> tuple:
        self.calls += 1
        return carry, {"action": np.full((1, 4), self.calls / 100, np.float32)}, {}


def played(success: bool, seen: bool = True) -> list[episodes.Episode]:
    envs = episodes.open_envs(lambda index: Counting(success, seen), parallel=False)
    return episodes.play(Agent(), envs, 2, film=2)


def test_rows_are_those_that_were_played():
    first, second = (recording.recording(episode, i) for i, episode in enumerate(played(True)))
    assert first.frames[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    np.testing.assert_allclose(first.actions[:, 0], [0.01, 0.02, 0.03, 0.04, 0.05, 0])
    np.testing.assert_allclose(first.rewards, [0, 0.01, 0.02, 0.03, 0.04, 0.05])
    assert first.success.tolist() == [False] * 4 + [True] * 2
    np.testing.assert_allclose(second.rewards[1:], second.actions[:-1, 0])
    assert (first.behaviour, first.seed, second.seed) == ("run", 0, 1)


@pytest.mark.parametrize("success", [True, False])
def test_the_data_set_is_read_by_score_and_by_fine_tuning(tmp_path, success):
    config = config_lib.parse(["--task", "metaworld_drawer_close"])
    recording.write(tmp_path / "data", played(success), config, 16)
    one, _ = given.load(tmp_path / "data")
    np.testing.assert_allclose(one.rewards, [0, 0.01, 0.02, 0.03, 0.04, 0.05])
    assert one.success_step == (4 if success else -1) and one.behaviour == "run"
    texts = [episode.text for episode in video_folder.find(tmp_path / "data")[0]]
    assert len(texts) == 2 and all(text.startswith("a failed attempt: ") != success for text in texts)


def test_episodes_without_pictures_are_no_data_set(tmp_path):
    config = config_lib.parse(["--task", "metaworld_drawer_close"])
    with pytest.raises(UserError, match="shows no pictures"):
        recording.write(tmp_path / "data", played(True, seen=False), config, 16)
    assert not list(tmp_path.iterdir())
