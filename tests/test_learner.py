"""Train steps beside acting: as many as are owed, one at a time, none silently lost."""

import threading

import pytest

from genreward_jax.learner import Learner

PATIENCE = 10


class Steps:
    """A train step that waits until it is let go, and notes what it saw."""

    def __init__(self):
        self.go, self.begun, self.done = threading.Semaphore(0), threading.Semaphore(0), 0
        self.under_way = self.most = 0
        self.threads = set()

    def __call__(self):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.threads.add(threading.current_thread())
        self.begun.release()
        assert self.go.acquire(timeout=PATIENCE)
        self.under_way -= 1
        self.done += 1


@pytest.fixture
def steps():
    return Steps()


@pytest.fixture
def learner(steps):
    learner = Learner(steps, overlap=True)
    yield learner
    steps.go.release(100)
    learner.close()


def test_acting_goes_on_while_a_step_is_computed(learner, steps):
    learner.owe(1)
    assert steps.begun.acquire(timeout=PATIENCE) and steps.done == 0  # it runs, and we are here
    assert threading.current_thread() not in steps.threads
    steps.go.release()
    learner.settle()
    assert steps.done == 1


def test_the_next_step_waits_for_the_one_before(learner, steps):
    learner.owe(1)
    acting = threading.Thread(target=learner.owe, args=(3,))
    acting.start()
    for released in range(3):  # the actor is held up until all but the last are done
        assert steps.begun.acquire(timeout=PATIENCE)
        acting.join(0.05)
        assert acting.is_alive() and steps.done == released
        steps.go.release()
    acting.join(PATIENCE)
    assert not acting.is_alive() and steps.done == 3
    steps.go.release()
    learner.settle()
    assert steps.done == 4 and steps.most == 1
    assert learner.waited_s > 0.1


def test_what_a_step_raises_reaches_the_loop(steps):
    def fail():
        raise ValueError("not a number")

    learner = Learner(fail, overlap=True)
    learner.owe(1)
    with pytest.raises(ValueError, match="not a number"):
        learner.settle()
    learner.settle()  # told once
    learner.owe(1)
    with pytest.raises(ValueError):
        learner.owe(1)
    learner.close()


def test_without_overlap_a_step_is_computed_where_it_is_owed(steps):
    learner = Learner(steps, overlap=False)
    steps.go.release(2)
    learner.owe(2)
    assert steps.done == 2 and steps.threads == {threading.current_thread()}
    learner.settle()
    learner.close()


@pytest.mark.parametrize("overlap", [True, False])
def test_a_step_waits_for_what_prepares_it(overlap):
    order = []
    ready = threading.Event()

    def prepare():
        assert ready.wait(PATIENCE)
        order.append("prepared")

    learner = Learner(lambda: order.append("step"), overlap)
    learner.begin(prepare)
    assert order == []
    ready.set()
    learner.owe(1)
    learner.settle()
    learner.close()
    assert order == ["prepared", "step"]
