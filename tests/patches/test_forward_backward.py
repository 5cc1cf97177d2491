"""FB under `measure` as the agent trains it: states of two kinds, embeddings of some rows only, pi_z, running figures.

The world is a chain of seven states walked at random. Its answers are known: F.B falls with the distance to the goal,
and pi_z walks towards it.
"""

import elements
import jax
import ninjax as nj
import numpy as np
import pytest

from dreamerv3_patches.forward_backward import ForwardBackward
from genreward_jax.errors import UserError
from genreward_jax.fb.running import RunningStandard
from genreward_jax.fb.settings import check_spaces, resolve
from tests.patches.tiny_agent import defaults

STATES, ROWS, STEPS, EVERY, GOAL = 7, 12, 33, 4, 5
ACT = {"action": elements.Space(np.float32, (1,), -1, 1)}
RNG = np.random.default_rng(0)
# Embeddings that differ little, as frames of one scene do; tokens that say the same in another way.
DINO = (RNG.normal(size=384) + 0.02 * RNG.normal(size=(STATES, 384))).astype(np.float32)
TOKENS = RNG.normal(size=(STATES, 20)).astype(np.float32)
SMALL = dict(dim=16, hidden=32, lr=1e-3, discount=0.8, reward_norm="running", dino_every=EVERY, objective="measure")
SMALL |= dict(dino="pooled", goal="key")


def section(**changes):
    return resolve({**defaults().fb, **SMALL, **changes})


def batch(seed, rows=ROWS, steps=STEPS):
    """Walks that begin anywhere; each begins its episode at another row, and every fourth step is embedded."""
    rng = np.random.default_rng(seed)
    action = rng.uniform(-1, 1, (rows, steps, 1)).astype(np.float32)
    state = np.zeros((rows, steps), int)
    state[:, 0] = rng.integers(0, STATES, rows)
    for t in range(1, steps):
        state[:, t] = np.clip(state[:, t - 1] + np.where(action[:, t - 1, 0] > 0, 1, -1), 0, STATES - 1)
    valid = (np.arange(steps) + rng.integers(0, EVERY, (rows, 1))) % EVERY == 0
    return {
        "tokens": TOKENS[state],
        "dino": DINO[state] * valid[..., None],
        "dino_valid": valid,
        "action": action,
        "next_action": action[:, 1:],
        "is_first": np.zeros((rows, steps), bool),
        "is_terminal": np.zeros((rows, steps), bool),
    }


class World:
    """A module, its parameters and its compiled functions."""

    def __init__(self, **changes):
        self.fb = ForwardBackward(ACT, section(**changes), name="fb")
        train = lambda batch: self.fb.train(lambda: batch)
        self._train, self._reward = jax.jit(nj.pure(train)), jax.jit(nj.pure(self.fb.reward))
        self.params = jax.jit(nj.init(train))({}, batch(0), seed=0)
        self.params["fb/goal/value"] = DINO[GOAL][None]
        self.metrics = []

    def train(self, updates):
        for seed in range(updates):
            self.params, metrics = self._train(self.params, batch(seed), seed=seed)
            self.metrics.append(metrics)

    def reward(self, states, actions):
        return np.asarray(self._reward(self.params, TOKENS[states], np.reshape(actions, (-1, 1)), seed=0)[1])

    def call(self, function, *args):
        return jax.jit(nj.pure(function))(self.params, *args, seed=0)[1]


@pytest.fixture(scope="module")
def world():
    world = World()
    world.train(600)
    return world


def test_rewards_rank_states_by_the_way_to_the_goal(world):
    states = np.arange(STATES)
    best = np.maximum(world.reward(states, np.full(STATES, 0.8)), world.reward(states, np.full(STATES, -0.8)))
    way = np.abs(states - GOAL)
    order = np.argsort(-best[:GOAL])
    np.testing.assert_array_equal(order, np.arange(GOAL)[::-1])  # on the long side: nearer is better, without exception
    assert best[way <= 1].min() > best[way >= 3].max()
    forth, back = world.reward(states[:GOAL], np.full(GOAL, 0.8)), world.reward(states[:GOAL], np.full(GOAL, -0.8))
    assert (forth[2:] > back[2:]).all()  # F tells actions apart where they matter


def test_pi_z_walks_to_the_goal(world):
    def act(tokens):
        z = world.fb.backward(world.fb._goal()[0])
        state = world.fb._state("forward_state", {"tokens": tokens})
        return world.fb.actor(state, jax.numpy.broadcast_to(z, (len(tokens), len(z))))

    actions = np.asarray(world.call(act, TOKENS))[:, 0]
    assert (actions[2:GOAL] > 0.3).all() and actions[GOAL + 1] < 0  # farther off there is less to tell apart


def test_the_loss_falls_and_terms_are_logged(world):
    loss = [float(metrics["loss"]) for metrics in world.metrics]
    assert np.mean(loss[-50:]) < np.mean(loss[:50]) - 1
    names = {"squared", "linear", "ortho", "product", "product_next", "actor", "reward_mean", "reward_spread"}
    assert names <= set(world.metrics[0])
    assert world.metrics[0]["transitions"] == pytest.approx(ROWS * (STEPS - 1) / EVERY, abs=ROWS)


def test_rewards_have_mean_0_and_spread_1_over_the_replay(world):
    data = batch(3, rows=50)
    states = np.argmax(data["tokens"] @ TOKENS.T - 0.5 * np.square(TOKENS).sum(-1), -1)  # which they are
    rewards = world.reward(states.ravel(), data["action"].ravel())
    assert abs(rewards.mean()) < 0.5 and 0.7 < rewards.std() < 1.4  # running, so a hundred updates behind


def test_the_goal_is_brought_to_the_rows_scale(world):
    goal = np.asarray(world.call(world.fb._goal))
    seen = (DINO - DINO.mean(0)) / np.sqrt(np.square(DINO - DINO.mean(0)).mean())
    assert np.corrcoef(goal, seen[GOAL])[0, 1] > 0.97 and 0.5 < goal.std() < 2


def test_frozen_is_for_good(world):
    frozen = {**world.params, "fb/frozen/value": np.array(True)}
    after, metrics = world._train(frozen, batch(1), seed=1)
    assert all(np.array_equal(frozen[key], after[key]) for key in frozen)
    assert not any(float(value) for value in metrics.values())


def transitions(fb, data):
    with jax.transfer_guard("allow"):
        found = nj.pure(fb._transitions)({}, data, seed=0)[1]
    return {key: np.asarray(value) for key, value in found.items()}


@pytest.mark.parametrize("every", [EVERY, 1])
def test_transitions_with_an_embedding_are_gathered(every):
    """All of them and each whole; where every row has one, nothing is left out."""
    data = batch(5)
    data["is_first"][2, 8] = True
    found = transitions(ForwardBackward(ACT, section(dino_every=every), name="fb"), data)
    counts = (data["dino_valid"] & ~data["is_first"])[:, 1:]
    assert found["weight"].sum() == counts.sum() and len(found["weight"]) == ROWS * (STEPS - 1) // every
    rows, steps = np.nonzero(counts)
    key = lambda x: np.lexsort(x.T[::-1])
    whole = lambda t, a, d, g: np.concatenate([t, a, d, np.reshape(g, (-1, 1))], -1)
    mine = found["weight"] > 0
    got = whole(*(found[name][mine] for name in ("tokens", "action", "next_dino", "group")))
    want = whole(data["tokens"][rows, steps], data["action"][rows, steps], data["dino"][rows, steps + 1], rows)
    np.testing.assert_array_equal(got[key(got)], want[key(want)])


def test_where_f_sees_embeddings_both_ends_need_one():
    data = batch(6)
    found = transitions(ForwardBackward(ACT, section(forward_state="dino", dino_every=1), name="fb"), data)
    assert found["weight"].sum() == (data["dino_valid"][:, 1:] & data["dino_valid"][:, :-1]).sum() == 0
    data["dino_valid"][:] = True
    found = transitions(ForwardBackward(ACT, section(forward_state="dino", dino_every=1), name="fb"), data)
    assert found["weight"].sum() == ROWS * (STEPS - 1) and "tokens" not in found


def test_running_figures_are_those_of_all_rows():
    rng = np.random.default_rng(0)
    rows = rng.normal(5, 0.02, (40, 16, 384)) + rng.normal(0, 0.05, (40, 1, 384))  # batches differ, too
    standard = RunningStandard.start(384)
    for part in rows:
        standard = standard.update(part, np.ones(16))
    untouched = standard.update(np.zeros((16, 384)), np.zeros(16))
    np.testing.assert_array_equal(untouched.mean, standard.mean)
    np.testing.assert_allclose(standard.mean, rows.mean((0, 1)), atol=1e-4)
    np.testing.assert_allclose(standard.variance, rows.var((0, 1)).mean(), rtol=1e-3)
    assert np.asarray(standard(rows)).std() == pytest.approx(1, abs=0.01)


def test_flags_that_cannot_go_together_are_sentences():
    classes = {"action": elements.Space(np.int32, (), 0, 4)}
    image = {"image": elements.Space(np.uint8, (16, 16, 3))}
    with pytest.raises(UserError, match="actions are classes"):
        check_spaces(section(), image, classes)
    with pytest.raises(UserError, match="needs observations that are images"):
        check_spaces(section(), {"position": elements.Space(np.float32, (3,))}, ACT)
    check_spaces(section(), image, ACT)
    with pytest.raises(UserError, match="--fb.encoder frozen keeps tokens"):
        section(forward_state="deter", encoder="frozen")
    with pytest.raises(UserError, match="needs every frame"):
        section(forward_state="dino", dino_every=8)
