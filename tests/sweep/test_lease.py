"""Two attempts never train one run: who may, by the board's clock and by each attempt's own."""

import time

import pytest

from genreward_jax.sweep.board import GO, LOST, STOP, Board
from genreward_jax.sweep.lease import Gone, Lease


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def board(clock):
    return Board(lease_s=10, clock=clock)


def test_a_second_attempt_waits_until_the_first_must_have_ended(board, clock):
    assert board.begin("run", "a", "node1") == GO
    clock.now += 3
    assert board.report("run", "a", 5) == GO
    while clock.now < 118:
        assert isinstance(board.begin("run", "b", "node2"), float), clock.now
        clock.now += 0.5
    assert board.begin("run", "b", "node2") == GO
    assert board.report("run", "a", 6) == LOST and board.report("run", "b", 6) == GO
    assert board.look(False)["run"] == {
        "running": True, "node": "node2", "step": 6, "first": 5, "note": "", "lives": 2,
    }  # fmt: skip


def test_after_a_proper_end_nobody_waits_and_a_late_report_counts_for_nothing(board):
    board.begin("run", "a", "node1")
    board.end("run", "a", 7)
    assert board.report("run", "a", 9) == LOST
    assert board.look(False)["run"]["step"] == 7 and not board.look(False)["run"]["running"]
    assert board.begin("run", "b", "node2") == GO


def test_other_runs_do_not_wait(board):
    assert board.begin("run", "a", "node1") == GO and board.begin("another", "b", "node1") == GO


def test_all_are_told_to_stop(board):
    board.begin("run", "a", "node1")
    board.look(True)
    board.look(False)
    assert board.report("run", "a", 1) == STOP and board.begin("another", "b", "node1") == STOP


def test_a_board_that_forgot_lets_nobody_in_before_whoever_trains_has_reported(board, clock):
    board.forgot()
    assert isinstance(board.begin("run", "b", "node2"), float)
    fresh = Board(lease_s=10, clock=clock)
    fresh.forgot()
    assert fresh.report("run", "a", 5) == GO  # goes on as if nothing had been
    clock.now += 15.1
    assert fresh.report("run", "a", 6) == GO
    assert isinstance(fresh.begin("run", "b", "node2"), float)
    assert fresh.begin("another", "c", "node2") == GO


class Silent(Exception):
    pass


def test_without_an_answer_an_attempt_gives_up_before_another_is_let_in(board, clock):
    """The lease counts from when the last answered question was asked, not from when its answer came."""
    silent = []

    def call(method, *arguments):
        if silent:
            raise Silent
        return getattr(board, method)(*arguments)

    lease = Lease(call, "run", 0.4)
    assert lease.begin() == GO and lease.report(3) == GO and lease.holds()
    asked = lease.answered
    silent.append(True)
    with pytest.raises(Gone, match="nobody has answered"):
        lease.report(4)
    assert not lease.holds() and lease.answered == asked


def test_an_answer_that_was_long_on_its_way_is_as_old_as_its_question(board):
    """What it says was true when the board wrote it down, and the board's own clock for others began then."""

    def call(method, *arguments):
        said = getattr(board, method)(*arguments)
        time.sleep(0.3)
        return said

    lease = Lease(call, "run", 0.2)
    lease.begin()
    assert not lease.holds()


def test_an_attempt_whose_run_is_anothers_ends(board, clock):
    lease = Lease(lambda method, *arguments: getattr(board, method)(*arguments), "run", 10)
    lease.begin()
    clock.now += 16
    assert board.begin("run", "another", "node2") == GO
    with pytest.raises(Gone, match="another attempt's"):
        lease.report(1)
