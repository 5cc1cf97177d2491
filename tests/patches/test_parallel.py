"""Upstream's actor and environments' loop, feeding functions of ours, and how they end."""

import threading
import time
from functools import partial

import elements
import numpy as np
import psutil
import pytest

from dreamerv3_patches.parallel import Actors

LENGTH = 10


class Counting:
    """Rows that say which environment, episode and step they are of."""

    act_space = {"action": elements.Space(np.float32, (1,), -1, 1), "reset": elements.Space(bool)}

    def __init__(self, index, fails_at=None):
        self.index, self.fails_at, self.episode, self.step_ = index, fails_at, -1, 0

    def step(self, action):
        self.step_ += 1
        if action["reset"] or self.episode < 0:
            self.episode, self.step_ = self.episode + 1, 0
        if self.step_ == self.fails_at:
            raise FloatingPointError("the simulation has diverged")
        return {
            "place": np.array([self.index, self.episode, self.step_], np.float32),
            "reward": np.float32(action["action"][0]),
            "is_first": np.bool_(self.step_ == 0),
            "is_last": np.bool_(self.step_ == LENGTH),
            "log/success": np.float32(self.step_ / LENGTH),
        }


def carries(count):
    return {"asked": [np.float32(0)] * count}  # a list for each leaf, as upstream's agents give them


def policy(carry, obs):
    """Acts by how often the environment has asked: a carry must follow its environment."""
    carry = {"asked": [asked + 1 for asked in carry["asked"]]}
    return carry, {"action": np.array(carry["asked"], np.float32)[:, None] / 1000}, {"double": 2 * obs["place"]}


class Rows:
    def __init__(self):
        self.of = {}

    def add(self, row, worker):
        self.of.setdefault(worker, []).append(row)


def wait_for(actors, condition, limit=90):
    end = time.monotonic() + limit
    while not condition():
        actors.check()
        assert time.monotonic() < end
        time.sleep(0.02)


def opened(makers, add, act=policy, **settings):
    return Actors(makers, carries, act, policy, add, **{"batch": 1, **settings})


def test_rows_come_in_order_with_their_logs_and_each_environment_keeps_its_carry():
    rows, figures = Rows(), []
    actors = opened([partial(Counting, i) for i in range(3)], rows.add, batch=2, note=figures.append, log_every=0.5)
    try:
        wait_for(actors, lambda: len(rows.of) == 3 and min(map(len, rows.of.values())) > 3 * LENGTH and figures)
    finally:
        before = {thread for thread in threading.enumerate() if "actor" in thread.name.lower()}
        actors.close()
    for worker, found in rows.of.items():
        places = [tuple(row["place"].astype(int)) for row in found]
        assert places == [(worker, t // (LENGTH + 1), t % (LENGTH + 1)) for t in range(len(found))]
        np.testing.assert_allclose([row["log/success"] for row in found], [p[2] / LENGTH for p in places], rtol=1e-6)
        np.testing.assert_array_equal([row["double"] for row in found], [2 * row["place"] for row in found])
        np.testing.assert_allclose([row["action"][0] for row in found], np.arange(1, len(found) + 1) / 1000, rtol=1e-6)
        assert not any("is_eval" in row or "envid" in row for row in found)
    assert figures[0]["server/actor/numrecv"] > 0
    assert before and not [thread for thread in before if thread.is_alive()]
    mine = [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
    assert not [child for child in mine if "tracker" not in " ".join(child.cmdline())]


def test_rows_wait_while_add_waits():
    rows, gate = Rows(), threading.Event()
    asked = []

    def add(row, worker):
        gate.wait(60)
        rows.add(row, worker)

    def counted(carry, obs):
        asked.append(1)
        return policy(carry, obs)

    actors = opened([partial(Counting, 0)], add, counted)
    try:
        wait_for(actors, lambda: len(asked) >= 2)
        time.sleep(1.0)
        held = len(asked)
        time.sleep(1.0)
        assert len(asked) == held < 10
        gate.set()
        wait_for(actors, lambda: len(asked) > held + 20)
        assert [int(row["place"][2]) for row in rows.of[0][:LENGTH]] == list(range(LENGTH))
    finally:
        gate.set()
        actors.close()


def test_an_environments_error_is_raised_as_it_was_raised_there():
    actors = opened([partial(Counting, 0), partial(Counting, 1, fails_at=3)], Rows().add)
    try:
        with pytest.raises(FloatingPointError, match="the simulation has diverged") as caught:
            wait_for(actors, lambda: False)
        assert any("environment 1" in note for note in caught.value.__notes__)
    finally:
        actors.close()


def test_a_killed_environment_is_named():
    rows = Rows()
    actors = opened([partial(Counting, i) for i in range(2)], rows.add)
    try:
        wait_for(actors, lambda: len(rows.of) == 2)
        psutil.Process(actors._envs[1].pid).kill()
        with pytest.raises(RuntimeError, match="environment 1 ended, exit code -9"):
            wait_for(actors, lambda: False)
    finally:
        actors.close()


@pytest.mark.parametrize("where", ["add", "policy"])
def test_what_our_functions_raise_is_raised_by_check_and_ends_nothing_else(where):
    rows = Rows()

    def failing(*args):
        if len(rows.of.get(0, [])) >= 5:
            raise ZeroDivisionError(where)
        return rows.add(*args) if where == "add" else policy(*args)

    actors = opened([partial(Counting, 0)], *((failing, policy) if where == "add" else (rows.add, failing)))
    try:
        with pytest.raises(ZeroDivisionError, match=where):
            wait_for(actors, lambda: False)
        held = len(rows.of[0])
        time.sleep(0.3)
        assert len(rows.of[0]) == held  # rows that come after it are dropped
    finally:
        actors.close()


def test_a_batch_that_can_never_be_full_is_refused():
    with pytest.raises(ValueError, match="3 of 2 environments"):
        opened([partial(Counting, i) for i in range(2)], Rows().add, batch=3)
