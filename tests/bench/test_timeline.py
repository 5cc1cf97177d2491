"""The picture of what runs when is made of a profiler's events."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from genreward_jax.bench import timeline


def event(name, start, length, thread=1):
    return {"ph": "X", "name": name, "pid": 1, "tid": thread, "ts": 1e6 * start, "dur": 1e6 * length}


def test_events_fall_into_their_rows_and_are_drawn(tmp_path):
    threads = [{"ph": "M", "name": "thread_name", "pid": 1, "tid": 2, "args": {"name": "tf_XLAEigen/12"}}]
    events = [
        event("$repairs.py:76 _receive", 1, 0.5),
        event("$agent.py:90 policy", 1.5, 0.25),
        event("dot.1", 2, 1, 2),
    ]
    rows = timeline.spans([*threads, *events, event("$other.py:1 policy", 0, 9), event("$agent.py:90 policy_x", 0, 9)])
    environment, policy, train, xla = rows.values()
    assert environment == [(1, 1.5)] and policy == [(1.5, 1.75)] and train == [] and xla == [(2, 3)]
    timeline.draw(tmp_path / "x.png", {**rows, timeline.REWARD: [(2.0, 2.1)]}, "x")
    assert np.asarray(Image.open(tmp_path / "x.png")).std() > 10


class Episodes:
    """A loop of one environment whose rows are counted from each reset."""

    def __init__(self, interval, length):
        self.interval, self.length, self.worker, self.rows = interval, length, SimpleNamespace(step=5), 0
        self.rewarding = SimpleNamespace(shaper=SimpleNamespace(workers=[self.worker]))

    def advance(self):
        self.rows += 1
        self.worker.step = 0 if self.worker.step == self.length else self.worker.step + 1


@pytest.mark.parametrize("interval, rows", [(32, 19), (10, 7), (4, 3), (1, 0)])
def test_the_picture_begins_some_steps_before_a_reward(interval, rows):
    loop = Episodes(interval, length=64)
    timeline._approach(loop)
    assert loop.rows == rows and (loop.worker.step + timeline.BEFORE) % interval == 0


def test_a_reward_that_never_comes_does_not_hold_the_picture_up():
    loop = Episodes(interval=1000, length=64)
    timeline._approach(loop)
    assert 65 <= loop.rows <= 2 * 65
