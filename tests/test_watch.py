"""The warnings of a run: each for the rewards it is meant for, once, and none for healthy ones."""

from dataclasses import replace

import numpy as np
import pytest

from genreward_jax.config import read_yaml
from genreward_jax.methods import Term, load_method
from genreward_jax.watch import ENOUGH, EPISODES, LAST, Watch

VIDEO = Term("video", "genreward_jax.rewards.genreward:VideoReward", 0.01, {"interval": 4, "frames": 2}, "reward.alpha")
FB = Term("fb", "genreward_jax.rewards.genreward:ForwardBackwardReward", 1e-5, {"interval": 4, "frames": 2})
QUIET = {"pending": 0.0, "waited_s": 0.0, "latency_ms": 5.0}


def watching(terms=(VIDEO, FB), **settings):
    said = []
    return Watch(list(terms), said.append, score="make score TASK=reach", **settings), said


def feed(watch, env=0.0, worker=0, length=4, **paid):
    """Episodes of ``length`` steps whose last row is paid the next value of each given reward."""
    for values in zip(*paid.values(), strict=True):
        now = dict(zip(paid, values, strict=True))
        added = sum(term.weight * now.get(term.name, 0.0) for term in watch.terms)
        for t in range(length + 1):
            last = t == length
            row = {"is_first": np.bool_(t == 0), "is_last": np.bool_(last), "reward_env": np.float32(env)}
            row |= {
                f"reward_{term.name}": np.float32(now.get(term.name, np.nan) if last else np.nan)
                for term in watch.terms
            }
            watch.add({**row, "reward": np.float32(env + (added if last else 0.0))}, worker)


def healthy(count, seed=0):
    rng = np.random.default_rng(seed)
    return {"video": rng.uniform(0.93, 0.99, count), "fb": rng.normal(40, 20, count)}


def test_healthy_rewards_are_left_alone_and_their_spread_is_told():
    watch, said = watching()
    paid = healthy(2 * LAST)
    feed(watch, **paid)
    for _ in range(3):
        watch.check(QUIET)
    assert said == []
    for name, values in paid.items():
        last = np.float32(values[-LAST:]).astype(np.float64)
        np.testing.assert_allclose(watch.stats()[f"{name}_spread"], last.std(), rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "spread", "warns"), [("float32", 1e-7, True), ("float32", 1e-5, False), ("bfloat16", 1e-5, True)]
)
def test_a_video_reward_that_only_rounds_is_told_once(dtype, spread, warns):
    watch, said = watching(dtype=dtype)
    rng = np.random.default_rng(0)
    for _ in range(2):
        feed(watch, video=0.97 + spread * rng.standard_normal(LAST), fb=healthy(LAST)["fb"])
        watch.check(QUIET)
    assert len(said) == warns
    if warns:
        assert "'video' does not vary beyond rounding" in said[0] and "(mean 0.9" in said[0] and "make score" in said[0]


def test_a_constant_forward_backward_reward_is_told_once():
    watch, said = watching()
    rng = np.random.default_rng(0)
    for _ in range(2):  # the printed objective, as it settles: 1 / (1 - 0.98)
        feed(watch, video=healthy(LAST)["video"], fb=50 + 0.2 * rng.standard_normal(LAST))
        watch.check(QUIET)
    assert len(said) == 1 and "'fb' sits at a constant" in said[0] and "--fb.objective" in said[0]


def test_nothing_is_said_before_there_is_enough():
    watch, said = watching()
    feed(watch, video=[0.97] * (ENOUGH - 1), fb=[50.0] * (ENOUGH - 1))
    watch.check(QUIET)
    assert said == []


@pytest.mark.parametrize(("env", "warns"), [(10.0, True), (0.1, False), (0.0, False)])
def test_a_share_that_nobody_will_notice_is_told_once(env, warns):
    watch, said = watching()
    for seed in range(2):
        feed(watch, env=env, **healthy(EPISODES, seed))
        watch.check(QUIET)
    assert len(said) == warns
    if warns:
        share = 0.01 * 0.96 / (5 * 10)  # a paid row in five of size 10
        assert "under 0.1%" in said[0] and f"{share:.0e}"[0] in said[0] and "--reward.alpha" in said[0]


@pytest.mark.parametrize(
    ("method", "mended"),
    [
        ("genreward", "raise --reward.alpha and --reward.beta,"),
        ("roboclip", "raise --reward.weight,"),
        ("a user's own", "raise its weight in the method,"),
    ],
)
def test_what_mends_a_small_share_is_the_methods_own_flag(method, mended):
    own = [replace(VIDEO, weight_flag="")]
    terms = own if method == "a user's own" else load_method(method, read_yaml("defaults")["reward"])
    watch, said = watching([replace(term, weight=1e-4) for term in terms])
    feed(watch, env=5.0, **{term.name: healthy(EPISODES)["video"] for term in terms})
    watch.check(QUIET)
    assert [line for line in said if mended in line]


def test_episodes_shorter_than_the_interval_are_told_and_a_learning_fb_is_not():
    watch, said = watching()
    feed(watch, env=1.0, length=2, none=[0.0] * EPISODES)
    watch.check(QUIET)
    assert len(said) == 1 and "'video' has paid nothing" in said[0] and "every 4 steps" in said[0]
    watch, said = watching([FB])
    feed(watch, env=1.0, none=[0.0] * EPISODES)
    watch.check(QUIET)
    assert said == []


def test_rows_that_wait_are_told_when_they_wait_again():
    watch, said = watching(max_pending_rows=100)
    waiting = {**QUIET, "pending": 60.0, "latency_ms": 4000.0}
    for figures in (waiting, QUIET, waiting):
        watch.check(figures)
    assert said == []
    watch.check(waiting)
    watch.check(waiting)
    assert len(said) == 1 and "60 rows wait" in said[0] and "4 s" in said[0]
    patient, said = watching(max_pending_rows=100, wait=True)
    [patient.check(waiting) for _ in range(3)]
    assert said == []


def test_an_fb_that_learns_from_hardly_anything_is_told():
    watch, said = watching([FB])
    measure = {"fb/product_next": 1.0}
    for metrics in ({}, {"fb/transitions": 3.0}, {**measure, "fb/transitions": 16.0}):  # paper counts every row
        watch.check_fb(metrics)
    assert said == []
    [watch.check_fb({**measure, "fb/transitions": 7.5}) for _ in range(2)]
    assert len(said) == 1 and "7.5 transitions" in said[0] and "--fb.dino_every" in said[0]


@pytest.mark.parametrize(
    ("mean", "spread", "warns"),
    [(50.0, 0.2, True), (-50.0, 0.2, True), (1.0, 0.0, True), (0.5, 1e-3, True), (0.5, 0.1, False), (0.0, 1e-3, False)],
)
def test_a_constant_that_normalising_hides_is_told_once_and_when_it_is_paid(mean, spread, warns):
    """Divided by its own spread, rounding looks like a healthy reward."""
    watch, said = watching([FB])
    figures = {"fb/reward_mean": mean, "fb/reward_spread": spread}
    watch.check_fb(figures)
    assert said == []
    feed(watch, fb=np.random.default_rng(0).standard_normal(LAST))
    for _ in range(2):
        watch.check(QUIET)
        watch.check_fb(figures)
    assert len(said) == warns
    if warns:
        assert "'fb' sits at a constant before it is normalised" in said[0] and "--fb.objective" in said[0]


def test_without_rewards_there_is_nothing_to_watch():
    watch, said = watching([])
    feed(watch, env=1.0, none=[0.0] * EPISODES)
    watch.check(QUIET)
    assert said == [] and watch.stats() == {}
