"""The picture of what runs when is made of a profiler's events."""

import numpy as np
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
