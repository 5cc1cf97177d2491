"""FB on recorded episodes of chains whose successor measure is known."""

import numpy as np
import pytest

from genreward_jax.errors import UserError
from genreward_jax.fb import offline

STATES, GAMMA, GOAL = 6, 0.8, 5
SMALL = {"dim": 16, "hidden": 48, "discount": GAMMA, "components": 8}


def embed(states: np.ndarray) -> np.ndarray:
    """One-hot, with a large part that all share, as frames of one scene have."""
    return (5 + np.eye(STATES)[states]).astype(np.float32)


def walk(action: np.ndarray, state: np.ndarray) -> np.ndarray:
    return np.clip(state + np.where(action > 0, 1, -1), 0, STATES - 1)


def episodes(count: int, length: int, seed: int, continuous: bool):
    """Random behaviour from random starts: (states, actions) of each episode."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        state, states, actions = rng.integers(STATES), [], []
        for _ in range(length + 1):
            action = rng.uniform(-1, 1) if continuous else rng.choice([-1.0, 1.0])
            states.append(state)
            actions.append([action])
            state = int(walk(action, state))
        yield np.array(states), np.array(actions, np.float32)


def known_measure(data) -> np.ndarray:
    """sum of gamma^t P(s_{t+1} = g | s, a) of the recorded behaviour, over g's share of the replay: (s, a, g)."""
    pairs = 2 * STATES  # number of (s, a) is 2 s + (a > 0)
    follows, lands = np.zeros((pairs, pairs)), np.zeros((pairs, STATES))
    for states, actions in data:
        number = 2 * states + (actions[:, 0] > 0)
        np.add.at(follows, (number[:-2], number[1:-1]), 1)
        np.add.at(lands, (number[:-2], states[1:-1]), 1)
    share = lands.sum(0) / lands.sum()
    follows, lands = (x / x.sum(1, keepdims=True) for x in (follows, lands))
    visits = np.linalg.solve(np.eye(pairs) - GAMMA * follows, lands)
    return (visits / share).reshape(STATES, 2, STATES)


def learned_measure(fb: offline.OfflineFB) -> np.ndarray:
    state, action = np.repeat(np.arange(STATES), 2), np.tile([[-1.0], [1.0]], (STATES, 1))
    goals = embed(np.arange(STATES))
    columns = [fb.with_goal(goal).values(embed(state), action) for goal in goals]
    return np.stack(columns, -1).reshape(STATES, 2, STATES)


def test_the_successor_measure_of_a_chain_is_recovered():
    """F.B is the discounted number of visits, relative to how often the replay holds the state, within 5 %."""
    data = list(episodes(60, 12, 0, continuous=False))
    fb = offline.train(
        [embed(s) for s, _ in data],
        [a for _, a in data],
        embed(GOAL),
        settings={**SMALL, "next_action": "replay", "pessimism": False, "lr": 3e-3, "target_rate": 0.03},
        updates=2000,
        batch=128,
    )
    known = known_measure(data)
    learned = learned_measure(fb)
    assert np.linalg.norm(learned - known) < 0.05 * np.linalg.norm(known)
    assert np.abs(learned - known).max() < 0.05 * known.max()
    rewards = fb.values(embed(np.arange(STATES)), np.ones((STATES, 1)))
    assert (np.diff(rewards) > 0).all(), "the nearer to the goal, the more reward"


def test_pi_z_walks_to_any_goal_and_its_measure_ranks_states_by_distance():
    data = list(episodes(60, 12, 1, continuous=True))
    seen = []
    fb = offline.train(
        [embed(s) for s, _ in data],
        [a for _, a in data],
        embed(GOAL),
        settings=SMALL,
        updates=600,
        batch=128,
        progress=lambda done, total: seen.append((done, total)),
    )
    everywhere = embed(np.arange(STATES))
    assert (fb.policy(everywhere[:GOAL]) > 0.3).all()
    assert (fb.with_goal(embed(0)).policy(everywhere[1:]) < -0.3).all()
    rewards = fb.values(everywhere, np.ones((STATES, 1)))
    assert (np.diff(rewards[:-1]) > 0).all()
    # Whoever stands before the goal is there at once and stays: nearly the goal's own value.
    assert rewards[-1] > rewards[-2] - 0.05 * np.ptp(rewards)
    assert seen[-1] == (600, 600) and len(seen) == 12
    assert {"squared", "linear", "ortho", "actor"} <= set(fb.metrics) and len(fb.metrics["actor"]) == 12


def test_a_goal_of_several_frames_is_the_mean_of_their_b():
    """To be at either of two places: a reward that is their rewards' mean, up to the length of z."""
    data = list(episodes(60, 12, 0, continuous=False))
    settings = {**SMALL, "next_action": "replay", "pessimism": False}  # so that F does not follow z
    fb = offline.train([embed(s) for s, _ in data], [a for _, a in data], embed(GOAL), settings=settings, updates=300)
    state, action = embed(np.arange(STATES)), np.ones((STATES, 1), np.float32)
    same = fb.with_goal(embed(np.array([4, 4, 4]))).values(state, action)
    np.testing.assert_allclose(same, fb.with_goal(embed(4)).values(state, action), rtol=1e-4)
    both = fb.with_goal(embed(np.array([0, 5]))).values(state, action)
    assert min(both[0], both[5]) > max(both[2], both[3]) + 0.2 * np.ptp(both)
    with pytest.raises(ValueError, match="for a goal"):
        offline.train([embed(s) for s, _ in data], [a for _, a in data], np.zeros((2, STATES + 1)))


def test_the_printed_objective_ends_at_one_number():
    data = list(episodes(20, 12, 2, continuous=False))
    fb = offline.train(
        [embed(s) for s, _ in data],
        [a for _, a in data],
        embed(GOAL),
        objective="paper",
        settings={**SMALL, "target_rate": 0.05, "lr": 3e-3},
        updates=800,
        batch=64,
    )
    rewards = fb.values(embed(np.arange(STATES)), np.ones((STATES, 1)))
    np.testing.assert_allclose(rewards, 1 / (1 - GAMMA), rtol=0.07)


def test_the_same_seed_gives_the_same_and_another_another():
    data = list(episodes(4, 8, 3, continuous=True))
    args = ([embed(s) for s, _ in data], [a for _, a in data], embed(GOAL))
    state, action = embed(np.arange(STATES)), np.ones((STATES, 1))
    rewards = [
        offline.train(*args, settings={**SMALL, "hidden": 16}, updates=offline.STEPS, batch=16, seed=seed).values(
            state, action
        )
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(rewards[0], rewards[1])
    assert np.abs(rewards[0] - rewards[2]).max() > 1e-3
    assert rewards[0].dtype == np.float32 and np.isfinite(rewards[0]).all()


def test_wrong_settings_are_refused():
    (states, actions), *_ = episodes(1, 8, 3, continuous=True)
    args = ([embed(states)], [actions], embed(GOAL))
    with pytest.raises(UserError, match="no setting 'hiden'"):
        offline.train(*args, settings={"hiden": 3})
    with pytest.raises(UserError, match="replay or actor"):
        offline.train(*args, settings={"next_action": "agent"})
    with pytest.raises(UserError, match="known objectives are"):
        offline.train(*args, objective="guess")
    with pytest.raises(ValueError, match="episode of embeddings"):
        offline.train([embed(states)], [actions[:-1]], embed(GOAL))
    fb = offline.train(*args, settings={**SMALL, "hidden": 16, "next_action": "replay"}, updates=1, batch=4)
    with pytest.raises(UserError, match="no policy"):
        fb.policy(embed(states))
