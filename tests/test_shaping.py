"""The shaper: eq. 10 at the right rows, windows of the right frames, order kept, late rewards harmless."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from genreward_jax.errors import UserError
from genreward_jax.methods import Term
from genreward_jax.rewards.base import Payment, Reward, Schedule
from genreward_jax.shaping import RewardShaper, reward_rows
from genreward_jax.windows import frame_steps, looks_at, resolved, sample_indices, sampled_steps

INTERVAL, COUNT, LENGTH = 8, 4, 20  # the third window of an episode is cut short and pays nothing


class MeanPixel(Reward):
    """Mean of the window's frames: tells exactly which frames came."""

    def __call__(self, window, models=None):
        return Payment([float(window.frames.mean())])


class AtEnd(Reward):
    """Pays once, at the end of an episode, the mean of frames of all of it; counts rows as its memory."""

    runs_in = "trainer"

    def __init__(self, goal=None, **settings):
        super().__init__(goal, **settings)
        self.seen = 0

    def schedule(self):
        return Schedule("end")

    def __call__(self, window, models=None):
        assert self.goal == "the goal"
        return Payment([float(window.frames.astype(np.float64).mean())], {"steps": float(window.step)})

    def observe(self, rows):
        self.seen += len(rows)

    def state(self):
        return {"seen": np.asarray(self.seen)}

    def load(self, state):
        self.seen = int(state["seen"])


class Recent(Reward):
    """Paid at every step, looks at three frames two steps apart: tells which, as digits to the base 100."""

    def schedule(self):
        return Schedule("every", 1, recent=3, stride=2)

    def __call__(self, window, models=None):
        assert len(window.actions) == 1
        return Payment([float(window.frames[:, 0, 0, 0] @ np.array([1e4, 1e2, 1.0]))])


def terms(fb=True):
    settings = {"interval": INTERVAL, "frames": COUNT}
    found = [Term("video", f"{__name__}:MeanPixel", 0.5, settings)]
    if fb:
        found.append(Term("fb", "genreward_jax.rewards.genreward:ForwardBackwardReward", 0.25, settings))
    return found


def episode(seed, length=LENGTH, start=0):
    """Rows of one episode as a driver gives them; r_FB of row t is returned by the policy call of row t."""
    rng = np.random.default_rng(seed)
    rows = []
    for t in range(length + 1):
        rows.append(
            {
                "image": rng.integers(0, 255, (4, 4, 3), np.uint8),
                "reward": np.float32(rng.normal() if t else 0),
                "action": rng.normal(size=2).astype(np.float32),
                "is_first": np.bool_(t == 0),
                "is_last": np.bool_(t == length),
                "is_terminal": np.bool_(False),
                "reward_fb": np.float32(rng.normal()),
                "reward_fb_paid": np.bool_(start <= t),
                "index": np.int32(t),
            }
        )
    return rows


def expected(rows):
    """Eq. 10 in plain NumPy: what the replay must hold for one episode."""
    rewards = np.array([row["reward"] for row in rows], np.float64)
    for t in range(INTERVAL, len(rows), INTERVAL):
        frames = [
            rows[t - INTERVAL + 1 + i]["image"] for i in np.round(np.linspace(0, INTERVAL - 1, COUNT)).astype(int)
        ]
        r_video, r_fb = np.mean(frames), rows[t - 1]["reward_fb"]
        rewards[t] += 0.5 * r_video + (0.25 * r_fb if rows[t - 1]["reward_fb_paid"] else 0.0)
    return rewards


def answered(payment):
    future = Future()
    future.set_result(payment)
    return future


def immediate(name, window):
    return answered(MeanPixel()(window))


@pytest.fixture
def late():
    """A bridge that answers each request after a random while, so in another order than asked."""
    rng = np.random.default_rng(0)
    with ThreadPoolExecutor(8) as pool:

        def pay(name, window):
            pause = float(rng.uniform(0, 0.05))

            def work():
                time.sleep(pause)
                return MeanPixel()(window)

            return pool.submit(work)

        yield pay


def run(shaper, episodes):
    """Pushes the environments' episodes through in step, as a driver does; gives rows by environment."""
    out = {worker: [] for worker in range(len(episodes))}
    for rows in zip(*episodes, strict=True):
        for worker, row in enumerate(rows):
            out[worker] += shaper.push(worker, row)
    for worker, row in shaper.flush():
        out[worker].append(row)
    return out


def test_equation_10_at_the_reward_steps_and_nowhere_else():
    rows = episode(0)
    (out,) = run(RewardShaper(terms(), immediate, frame_count=COUNT), [rows]).values()
    np.testing.assert_allclose([row["reward"] for row in out], expected(rows), rtol=1e-6)
    paid = [int(row["index"]) for row in out if np.isfinite(row["reward_video"])]
    assert paid == [8, 16]
    np.testing.assert_array_equal([row["reward_env"] for row in out], [row["reward"] for row in rows])
    for t in paid:  # the reward of row t belongs to the action of row t-1, so to the policy call of row t-1
        assert out[t]["reward_fb"] == rows[t - 1]["reward_fb"]
    assert all("reward_fb_paid" not in row for row in out)


def test_windows_start_anew_with_every_episode():
    rows = episode(1) + episode(2)
    (out,) = run(RewardShaper(terms(), immediate, frame_count=COUNT), [rows]).values()
    want = np.concatenate([expected(rows[: LENGTH + 1]), expected(rows[LENGTH + 1 :])])
    np.testing.assert_allclose([row["reward"] for row in out], want, rtol=1e-6)


def test_a_window_holds_the_actions_and_rewards_of_its_own_steps():
    windows = []

    def pay(name, window):
        windows.append(window)
        return immediate(name, window)

    first, second = episode(1), episode(2)  # the first leaves four steps behind that no window took
    run(RewardShaper(terms(), pay, frame_count=COUNT), [first + second])
    for window, (rows, end) in zip(windows, [(first, 8), (first, 16), (second, 8), (second, 16)], strict=True):
        steps = range(end - INTERVAL + 1, end + 1)
        np.testing.assert_array_equal(window.actions, [rows[t - 1]["action"] for t in steps])  # that led to each row
        np.testing.assert_array_equal(window.rewards, [rows[t]["reward"] for t in steps])
        assert window.step == end


def test_fb_is_not_paid_while_it_learns():
    rows = episode(3, start=10)
    (out,) = run(RewardShaper(terms(), immediate, frame_count=COUNT), [rows]).values()
    assert [int(row["index"]) for row in out if np.isfinite(row["reward_fb"])] == [16]


def test_fb_is_not_paid_for_random_actions():
    rows = [{k: v for k, v in row.items() if not k.startswith("reward_fb")} for row in episode(4)]
    (out,) = run(RewardShaper(terms(), immediate, frame_count=COUNT), [rows]).values()
    assert not any(np.isfinite(row["reward_fb"]) for row in out)
    assert sum(np.isfinite(row["reward_video"]) for row in out) == 2


def test_late_rewards_change_neither_content_nor_order(late):
    episodes = [episode(seed) + episode(seed + 10) for seed in range(4)]
    at_once = run(RewardShaper(terms(), immediate, frame_count=COUNT), episodes)
    for kwargs in ({}, {"wait": True}, {"max_pending_rows": 3, "say": lambda text: None}):
        out = run(RewardShaper(terms(), late, frame_count=COUNT, **kwargs), episodes)
        for worker in at_once:
            assert [row["index"] for row in out[worker]] == [row["index"] for row in at_once[worker]]
            for key in ("reward", "reward_env", "reward_video", "reward_fb", "image", "action"):
                a, b = ([row[key] for row in rows[worker]] for rows in (out, at_once))
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_late_reward_holds_back_only_its_own_environment():
    gate = threading.Event()
    pool = ThreadPoolExecutor(4)

    def pay(name, window):
        slow = window.frames.mean() > 100
        return pool.submit(lambda: (gate.wait(10) if slow else None, MeanPixel()(window))[1])

    bright, dark = episode(5), episode(6)
    for row in bright:
        row["image"] = np.full((4, 4, 3), 200, np.uint8)
    for row in dark:
        row["image"] = np.full((4, 4, 3), 10, np.uint8)
    shaper = RewardShaper(terms(), pay, frame_count=COUNT)
    left = {0: 0, 1: 0}
    for a, b in zip(bright, dark, strict=True):
        left[0] += len(shaper.push(0, a))
        left[1] += len(shaper.push(1, b))
        time.sleep(0.002)
    assert left[0] == INTERVAL  # rows 0..7 left, row 8 waits
    assert left[1] >= INTERVAL + 1
    assert shaper.stats()["pending"] >= LENGTH + 1 - INTERVAL
    gate.set()
    assert sum(1 for worker, _ in shaper.flush() if worker == 0) == LENGTH + 1 - INTERVAL
    pool.shutdown()


def test_the_loop_waits_when_too_many_rows_are_held_back(late):
    said = []
    shaper = RewardShaper(terms(), late, frame_count=COUNT, max_pending_rows=2, say=said.append)
    for row in episode(7):
        shaper.push(0, row)
        assert shaper.stats()["pending"] <= 3
    assert len(said) == 1 and "max_pending_rows" in said[0]
    assert shaper.stats()["waited_s"] > 0


def test_no_terms_leave_rewards_alone():
    rows = episode(8)
    (out,) = run(RewardShaper([]), [rows]).values()
    assert [row["reward"] for row in out] == [row["reward"] for row in rows]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_reward_that_is_not_finite_is_refused(value):
    def pay(name, window):
        future = Future()
        future.set_result(Payment([value]))
        return future

    shaper = RewardShaper(terms(fb=False), pay, frame_count=COUNT)
    with pytest.raises(UserError, match=f"'video' gave {value}"):
        run(shaper, [episode(9)])


def test_a_reward_paid_at_the_end_of_an_episode():
    term = Term("end", f"{__name__}:AtEnd", 1.0, {})
    shaper = RewardShaper([term], immediate, frame_count=COUNT, goal="the goal")
    episodes = [episode(10), episode(11, length=5)]
    (out,) = run(shaper, [episodes[0] + episodes[1]]).values()
    want = [np.mean([rows[1 + i]["image"] for i in sample_indices(len(rows) - 1, COUNT)]) for rows in episodes]
    np.testing.assert_allclose([row["reward_end"] for row in out if np.isfinite(row["reward_end"])], want, rtol=1e-6)
    assert shaper.stats()["end/steps"] == 5
    again = RewardShaper([term], immediate, frame_count=COUNT, goal="the goal")
    again.load(shaper.state())
    assert again.rewards[0].seen == len(out)


def test_frames_come_from_slots_only_where_they_are_sampled():
    taken = []

    def frame_of(worker, slot):
        taken.append(slot)
        return np.full((2, 2, 3), slot, np.uint8)

    rows = episode(12)
    for t, row in enumerate(rows):
        row["frame_slot"] = np.int32(t if t and (t - 1) % INTERVAL + 1 in sampled_steps(INTERVAL, COUNT) else -1)
    (out,) = run(RewardShaper(terms(), immediate, frame_count=COUNT, frame_of=frame_of), [rows]).values()
    first = 1 + sample_indices(INTERVAL, COUNT)
    np.testing.assert_allclose(out[INTERVAL]["reward_video"], np.mean(first))
    assert taken[:COUNT] == list(first)
    assert all("frame_slot" not in row for row in out)


@pytest.mark.parametrize("slots", [False, True])
def test_recent_frames_reach_back_over_rows_that_were_paid_and_stop_at_the_reset(slots):
    """Beside a reward with windows of its own, from the rows' images and through slots, in two episodes."""

    def frame_of(worker, slot):
        return np.full((2, 2, 3), slot, np.uint8)

    recent = Term("recent", f"{__name__}:Recent", 1.0, {})
    episodes = [episode(12), episode(13)]
    for rows in episodes:
        for t, row in enumerate(rows):
            row["image"] = np.full((2, 2, 3), t, np.uint8)
            if slots:
                row["frame_slot"] = np.int32(t)
    pay = lambda name, window: answered(Recent()(window)) if name == "recent" else immediate(name, window)
    shaper = RewardShaper([*terms(), recent], pay, frame_count=COUNT, frame_of=frame_of)
    (out,) = run(shaper, [sum(episodes, [])]).values()
    for begin in (0, LENGTH + 1):
        for t in range(1, LENGTH + 1):
            want = 1e4 * max(0, t - 4) + 1e2 * max(0, t - 2) + t
            assert out[begin + t]["reward_recent"] == want
        first = 1 + sample_indices(INTERVAL, COUNT)
        np.testing.assert_allclose(out[begin + INTERVAL]["reward_video"], np.mean(first))
    assert all(len(c.frames) <= 5 for c in shaper.workers[0].collectors[-1:])


@pytest.mark.parametrize("schedule", [
    Schedule("every", 8, frames=3), Schedule("every", 1, recent=1), Schedule("every", 1, recent=4, stride=3),
    Schedule("every", 5, recent=3, stride=2), Schedule("end", frames=4), Schedule("end", recent=3, stride=4),
    Schedule("every", 2, recent=9, stride=1),
])  # fmt: skip
@pytest.mark.parametrize("length", [9, 16, 20])
def test_an_environment_draws_the_frames_that_windows_are_made_of_and_no_others(schedule, length):
    paid = [length] if schedule.kind == "end" else range(schedule.interval, length + 1, schedule.interval)
    used = {step for at in paid for step in frame_steps(schedule, at)}
    assert {step for step in range(length + 1) if looks_at(schedule, step, length)} == used or (
        schedule.kind == "end" and schedule.recent  # all are kept: an end may come early
    )
    assert used <= {step for step in range(length + 1) if looks_at(schedule, step)}


def test_a_schedule_without_a_number_of_frames_takes_the_runs():
    assert resolved(Schedule("every", 8), 16).frames == 16
    assert resolved(Schedule("end", frames=32), 16).frames == 32


def test_an_interval_longer_than_the_episode_is_refused():
    with pytest.raises(UserError, match="every 8 steps but an episode has 7"):
        reward_rows(terms(), 7)
    reward_rows(terms(), 8)


def test_uniform_sampling_takes_first_and_last():
    assert list(sample_indices(128, 16)[[0, -1]]) == [0, 127]
    assert list(sample_indices(3, 5)) == [0, 0, 1, 2, 2] or list(sample_indices(3, 5)) == [0, 1, 1, 1, 2]
    assert sampled_steps(16, 16) == frozenset(range(1, 17))
    with pytest.raises(ValueError):
        sample_indices(0, 4)
