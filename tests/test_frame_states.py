"""DINOv3 embeddings of replay frames: at every k-th row, of that row's own frame, in order, however late they are."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

import elements
import numpy as np
import pytest

from genreward_jax.frame_states import KEYS, annotator, end_frames, every, goal_states, numbers, spaces
from genreward_jax.shaping import RewardShaper
from genreward_jax.video import fit
from tests.test_shaping import COUNT, LENGTH, episode, immediate, run, terms

EVERY = 4
FB = {"dino": "pooled", "goal": "key", "backward_state": "dino", "forward_state": "tokens"}


def embed(frames):
    """What stands for DINO: 384 numbers that only this frame gives."""
    return np.stack([np.resize(frame.astype(np.float32), 384) for frame in frames])


@pytest.fixture
def call():
    """A bridge whose answers come late and in another order than asked."""
    rng = np.random.default_rng(0)
    with ThreadPoolExecutor(8) as pool:

        def ask(capability, frames):
            pause = float(rng.uniform(0, 0.02))
            assert capability == "embed_state" and frames.shape == (1, 4, 4, 3)
            return pool.submit(lambda: (time.sleep(pause), embed(frames))[1])

        yield ask


@pytest.mark.parametrize("wait", [False, True])
def test_every_kth_row_of_each_episode_carries_its_frames_embedding(call, wait):
    episodes = [episode(seed) + episode(seed + 10, length=LENGTH - 3) for seed in range(2)]
    plain = run(RewardShaper(terms(), immediate, frame_count=COUNT), episodes)
    out = run(
        RewardShaper(terms(), immediate, frame_count=COUNT, wait=wait, annotate=annotator(call, EVERY, FB)), episodes
    )
    for worker, rows in out.items():
        assert [row["index"] for row in rows] == [row["index"] for row in episodes[worker]]
        assert [row["reward"] for row in rows] == [row["reward"] for row in plain[worker]]
        for row, given in zip(rows, episodes[worker], strict=True):
            due = given["index"] % EVERY == 0  # counted from each episode's reset
            assert row["dino_valid"] == due and row["dino"].shape == (384,) and row["dino"].dtype == np.float32
            np.testing.assert_array_equal(row["dino"], embed([given["image"]])[0] if due else 0)
        found = {key: elements.Space(rows[0][key].dtype, rows[0][key].shape) for key in KEYS}
        assert all((found[key].dtype, found[key].shape) == (s.dtype, s.shape) for key, s in spaces(FB).items())


def test_the_loop_does_not_wait_for_an_embedding():
    asked = []

    def ask(capability, frames):
        asked.append(Future())
        return asked[-1]

    shaper, rows = RewardShaper([], annotate=annotator(ask, EVERY, FB)), episode(0)
    assert [shaper.push(0, row) for row in rows[: EVERY + 1]] == [[]] * (EVERY + 1)
    asked[0].set_result(np.ones((1, 384), np.float32))
    assert [row["index"] for row in shaper.push(0, rows[EVERY + 1])] == list(range(EVERY))
    asked[1].set_result(np.ones((1, 384), np.float32))
    assert [row["index"] for _, row in shaper.flush()] == [EVERY, EVERY + 1]


def test_a_failed_embedding_reaches_the_loop():
    def ask(capability, frames):
        future = Future()
        future.set_exception(RuntimeError("the bridge is gone"))
        return future

    with pytest.raises(RuntimeError, match="the bridge is gone"):
        run(RewardShaper([], annotate=annotator(ask, EVERY, FB)), [episode(0)])


def test_how_often_frames_are_embedded():
    tokens = {"forward_state": "tokens", "backward_state": "tokens", "dino_every": 0}
    assert every(tokens, "cpu") == 0
    dino = {**tokens, "backward_state": "dino"}
    assert (every(dino, "cpu"), every(dino, "cuda"), every({**dino, "dino_every": 3}, "cpu")) == (8, 1, 3)
    assert every({**dino, "forward_state": "dino"}, "cpu") == 1  # F is asked about two neighbouring rows


def at_once(capability, frames):
    """A bridge that answers at once; the embedding says by which capability it was made."""
    future = Future()
    future.set_result(np.tile(embed(frames), (1, 4)) if capability == "embed_regions" else embed(frames))
    return future


def test_the_goal_is_as_sharp_as_the_rows():
    frame = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    goal = SimpleNamespace(key_frame=frame, psi=np.ones(384, np.float32))
    assert goal_states(goal, [], at_once, {**FB, "backward_state": "tokens"}, 8) is goal.psi  # as the paper
    np.testing.assert_array_equal(goal_states(goal, [], at_once, FB, 8), embed(fit(frame[None], 8)))
    regions = {**FB, "dino": "regions"}
    found = goal_states(goal, [], at_once, regions, 16)
    assert found.shape == (1, numbers(regions)) == (1, 4 * 384)


def numbered(count, size=16):
    """A video whose frames' brightness is their number."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, size, size, 3)).copy()


def test_the_goal_s_end_is_as_much_of_each_video():
    shown = end_frames([numbered(41), numbered(11), numbered(1)], 8)
    assert shown.shape == (18, 8, 8, 3)
    first, second, third = np.split(shown[:, 0, 0, 0], 3)
    np.testing.assert_array_equal(first, [0, 8, 16, 24, 32, 40])
    np.testing.assert_array_equal(second, [0, 2, 4, 6, 8, 10])
    assert not third.any()
    assert len(end_frames([numbered(9)], 8)) == len(end_frames([numbered(9)] * 40, 8)) == 18
    end, ends = {**FB, "goal": "end"}, [numbered(41), numbered(11)]
    found = goal_states(SimpleNamespace(video=None), ends, at_once, end, 8)
    np.testing.assert_array_equal(found, embed(end_frames(ends, 8)))
    own = goal_states(SimpleNamespace(video=numbered(40)), [], at_once, end, 8)  # a video that says no more
    assert set(own[:, 0]) == set(range(34, 40))
