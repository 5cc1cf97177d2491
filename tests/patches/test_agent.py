"""The agent: upstream's to the bit where it should be, and FB inside it where it should not."""

import elements
import embodied
import jax
import ninjax as nj
import numpy as np
import pytest

from dreamerv3_patches import checkpoint
from dreamerv3_patches.agent import make_agent
from dreamerv3_patches.forward_backward import ForwardBackward
from genreward_jax.errors import UserError
from genreward_jax.fb.settings import resolve
from tests.patches.tiny_agent import ACT, BATCH, OBS, batch, fb_section, observation, settings, stream

INTERVAL = 3
PSI = np.random.default_rng(5).normal(size=384).astype(np.float32)


def one_rate():
    """Settings in which actor and critic learn at the world model's rate, as upstream's do."""
    config = settings()
    return config.update(actor_critic_lr=config.opt.lr)


def play(agent, resets, mode="train", carry=None, lasts=None, seed=0):
    """Policy outputs for rows whose is_first are ``resets`` (rows x environments)."""
    rng = np.random.default_rng(seed)
    carry = carry or agent.init_policy(len(resets[0]))
    results = []
    for i, first in enumerate(resets):
        obs = observation(rng, first, lasts and lasts[i])
        carry, acts, outs = agent.policy(carry, obs, mode)
        results.append({**acts, **outs, "obs": obs})
    return results


def train(agent, steps, seed=0, data=None):
    carry, feed = agent.init_train(BATCH), stream(agent, data or batch(agent, seed))
    for _ in range(steps):
        carry, _, metrics = agent.train(carry, next(feed))
    return metrics


def paid(results):
    return np.array([x["reward_fb_paid"] for x in results])


def same(a, b, keys):
    return all(np.array_equal(a[key], b[key]) for key in keys)


@pytest.fixture(scope="module")
def initial():
    """The agent with FB and its state at the start; tests take :func:`fresh`."""
    agent = make_agent(OBS, ACT, one_rate(), fb=fb_section(), reward_interval=INTERVAL)
    agent.set_goal(PSI)
    return agent, agent.save()


@pytest.fixture
def agent(initial):
    agent, state = initial
    agent.load(state)
    return agent


RESETS = [[True, True], [False, False], [False, True]]


@pytest.fixture(scope="module")
def official():
    """Upstream's own class with nothing but the repairs: its start, what it plays, what it is after two updates."""
    import dreamerv3.agent

    agent = dreamerv3.agent.Agent(OBS, ACT, settings())
    start, rows, rng = agent.save(), [], np.random.default_rng(0)
    carry = agent.init_policy(2)
    for first in RESETS:
        obs = {key: value for key, value in observation(rng, first).items() if key in OBS}
        carry, acts, outs = agent.policy(carry, obs)
        rows.append({**acts, **outs})
    data = {key: value for key, value in batch(agent).items() if key in agent.spaces}
    carry, feed = agent.init_train(BATCH), iter(agent.stream(embodied.streams.Stateless(lambda: dict(data))))
    for _ in range(2):
        carry, _, _ = agent.train(carry, next(feed))
    return start, rows, agent.save(), agent


def test_without_fb_it_is_upstreams_to_the_bit(official):
    """Same parameters, same actions, same parameters after training (at one learning rate for all)."""
    ours = make_agent(OBS, ACT, one_rate(), fb=None, reward_interval=INTERVAL)
    assert list(ours.params) == list(official[0]["params"]) and same(ours.params, official[0]["params"], ours.params)
    rows = play(ours, RESETS)
    assert "reward_fb" not in rows[0]
    assert all(same(one, other, other) for one, other in zip(rows, official[1], strict=True))
    train(ours, 2)
    assert same(ours.save()["params"], official[2]["params"], ours.params)


def test_fb_disturbs_neither_world_model_nor_actions(agent, official):
    """With FB inside, parameters, actions and the world model's updates are the same bits as without."""
    keys = set(official[0]["params"])
    assert same(agent.params, official[0]["params"], keys)
    for ours, theirs in zip(play(agent, RESETS), official[1], strict=True):
        assert np.array_equal(ours["action"], theirs["action"])
    train(agent, 2)
    assert same(agent.save()["params"], official[2]["params"], keys)


def test_unknown_keys_are_dropped_by_ours_only(agent, official):
    with pytest.raises(AssertionError):
        official[3].policy(official[3].init_policy(1), observation(np.random.default_rng(0), [True]))
    play(agent, [[True]])


def test_rewards_come_one_row_before_the_paid_one(agent):
    """Row t is paid when t is a multiple of 3 steps since its environment's reset, so the policy call of row t - 1
    computes it; resets in the middle start the count again, for each environment alone."""
    agent.freeze_fb()
    resets = [[True, True], [False, False], [False, False], [False, True], [False, False], [False, False]]
    results = play(agent, resets)
    steps = np.array([[0, 0], [1, 1], [2, 2], [3, 0], [4, 1], [5, 2]])
    np.testing.assert_array_equal(paid(results), (steps + 1) % INTERVAL == 0)
    rewards = np.array([x["reward_fb"] for x in results])
    assert (rewards[~paid(results)] == 0).all() and (rewards[paid(results)] != 0).all()


def test_the_reward_is_equation_9_of_tokens_and_sampled_action(agent):
    """Against plain NumPy on the parameters, tokens by the encoder itself."""
    agent.freeze_fb()
    row = play(agent, [[True, True], [False, False], [False, False]])[2]
    params = {key: np.asarray(value, np.float64) for key, value in agent.save()["params"].items()}
    tokens = tokens_of(agent, row["obs"]["image"])
    dense = lambda name, x: x @ params[f"fb/{name}/kernel"] + params[f"fb/{name}/bias"]

    def embed(name, x):
        x = dense(f"{name}/Dense_0", x)
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        x = np.tanh(x * params[f"fb/{name}/LayerNorm_0/scale"] + params[f"fb/{name}/LayerNorm_0/bias"])
        return np.maximum(dense(f"{name}/Dense_1", x), 0)

    def forward(i, state, action, z):
        name = f"forward{i}/params"
        parts = [embed(f"{name}/Embed_{j}", np.concatenate([state, x], -1)) for j, x in enumerate((action, z))]
        return dense(f"{name}/Dense_1", np.maximum(dense(f"{name}/Dense_0", np.concatenate(parts, -1)), 0))

    b = dense("backward/params/Dense_0", embed("backward/params/Embed_0", PSI.astype(np.float64)))
    b *= np.sqrt(b.size) / np.linalg.norm(b)
    state, z = dense("map/params/Dense_0", tokens), np.stack([b, b])
    action = np.clip(row["action"], -1, 1)
    expected = np.minimum(*[forward(i, state, action, z) @ b for i in range(2)])
    np.testing.assert_allclose(row["reward_fb"], expected, rtol=2e-4)


def tokens_of(agent, images):
    """The live encoder's tokens of (N, H, W, 3) images, float64."""
    with jax.transfer_guard("allow"):
        encode = nj.pure(lambda x: agent.model.enc.module({}, {"image": x}, x[:, 0, 0, 0] >= 0, False, single=True)[2])
        return np.asarray(encode(agent.params, jax.numpy.asarray(images), seed=0)[1], np.float64)


def test_nothing_is_paid_before_freezing_in_evaluation_or_into_a_reset(agent):
    resets = [[True, True], [False, False], [False, False]]
    assert not paid(play(agent, resets)).any()
    agent.freeze_fb()
    assert paid(play(agent, resets))[2].all()
    for row in play(agent, resets, mode="eval"):
        assert not row["reward_fb_paid"].any() and not row["reward_fb"].any()
    ends = [[False, False], [False, False], [True, False]]  # row 3 of environment 0 would be a reset
    np.testing.assert_array_equal(paid(play(agent, resets, lasts=ends))[2], [False, True])


def test_freezing_stops_fb_for_good_and_nothing_else(agent):
    before = agent.save()["params"]
    metrics = train(agent, 2)
    assert {"fb/loss", "fb/ortho", "fb/squared", "fb/linear", "fb/product", "fb/product_spread"} <= set(metrics)
    trained = agent.save()["params"]
    own = [key for key in trained if key.startswith("fb/")]
    networks = [key for key in own if key.endswith("kernel")]
    assert networks and not any(np.array_equal(before[key], trained[key]) for key in networks)
    assert agent.encoder_drift(batch(agent)["image"][0]) == 0.0
    agent.freeze_fb()
    assert agent.fb_frozen and agent.encoder_drift(batch(agent)["image"][0]) < 1e-6
    metrics = train(agent, 3)
    assert not any(key.startswith("fb/") for key in metrics)
    after = agent.save()["params"]
    assert same(trained, after, set(own) - {"fb/frozen/value"})
    assert not np.array_equal(trained["enc/cnn0/kernel"], after["enc/cnn0/kernel"])
    assert np.array_equal(trained["enc/cnn0/kernel"], after["fbenc/cnn0/kernel"])
    assert agent.encoder_drift(batch(agent)["image"][0]) > 1e-6


def test_what_a_policy_call_costs_grows_with_its_rows_and_reads_its_parameters(agent):
    cost = {
        rows: agent.policy_cost(agent.init_policy(rows), observation(np.random.default_rng(0), [True] * rows))
        for rows in (1, 4)
    }
    assert 2 * cost[1][0] < cost[4][0] < 5 * cost[1][0]
    held = agent.policy_params
    read = sum(value.nbytes for key, value in held.items() if key.startswith(("enc/", "dyn/", "pol/")))
    assert cost[1][1] > 0.5 * read


def test_a_frozen_train_step_leaves_fb_out_and_loading_brings_it_back(agent):
    """Two programs, each compiled once: with FB's update and without."""
    start = agent.save()
    train(agent, 2)
    size = agent.train_cost()[0]
    agent.compile_train()
    learning = agent._train
    agent.compile_train()
    assert agent._train is learning and agent.train_cost()[0] == size  # compiled once; its cost is the same before
    agent.freeze_fb()
    assert agent._train is not learning
    train(agent, 2)
    assert agent.train_cost()[0] < size
    agent.load(start)
    assert "fb/loss" in train(agent, 2)
    networks = [key for key in start["params"] if key.startswith("fb/forward0/") and key.endswith("kernel")]
    after = agent.save()["params"]
    assert networks and not any(np.array_equal(start["params"][key], after[key]) for key in networks)


def test_slow_copies_follow_by_the_target_rate(agent):
    rate = fb_section()["target_rate"]
    old = agent.save()["params"]
    train(agent, 1)
    new = agent.save()["params"]
    for key in (key for key in new if key.startswith(("fb/slow_", "fb/slow_backward"))):
        source = key.replace("slow_", "")
        np.testing.assert_array_equal(old[key], old[source])
        np.testing.assert_allclose(new[key], rate * new[source] + (1 - rate) * old[key], rtol=1e-6, atol=1e-7)


def test_resets_and_ends_in_the_batch_reach_the_loss(agent):
    """The pair of rows across a reset does not count; the number of transitions says so."""
    data = batch(agent)
    data["is_first"][0, 3] = True
    metrics = train(agent, 2, data=data)  # metrics arrive one call later
    rows = data["is_first"].shape[1] - 1  # one row is replay context
    assert metrics["fb/transitions"] == BATCH * (rows - 1) - 1


def test_transitions_pair_each_row_with_its_own_action_and_the_next_row(agent, monkeypatch):
    """(s_t, a_t, s_t+1, a_t+1) of the same environment; gamma 0 into a terminal row, weight 0 across a reset."""
    model, rows = agent.model, 4
    rng = np.random.default_rng(0)
    action = rng.uniform(-1, 1, (BATCH, rows, 4)).astype(np.float32)
    before = rng.uniform(-1, 1, (BATCH, 1, 4)).astype(np.float32)
    obs = {"is_first": np.zeros((BATCH, rows), bool), "is_terminal": np.zeros((BATCH, rows), bool)}
    obs["is_first"][1, 2] = obs["is_terminal"][0, 3] = True
    outs = {"tokens": np.arange(BATCH * rows, dtype=np.float32).reshape(BATCH, rows, 1), "repfeat": {}}
    model.opt.args = (None, None, obs, {"action": np.concatenate([before, action[:, :-1]], 1)})
    model.opt.result = (None, (None, None, outs, None))
    caught = {}
    monkeypatch.setattr(model.fb, "train", lambda make: caught.update(model.fb._transitions(make())) or {})
    with jax.transfer_guard("allow"):
        nj.pure(model._train_fb)({}, {"action": np.concatenate([before, action], 1)}, seed=0)
        caught = {key: np.asarray(value) for key, value in caught.items()}
    np.testing.assert_array_equal(caught["tokens"][:, 0], [0, 1, 2, 4, 5, 6])
    np.testing.assert_array_equal(caught["next_tokens"][:, 0], [1, 2, 3, 5, 6, 7])
    np.testing.assert_array_equal(caught["action"], action[:, :-1].reshape(-1, 4))
    np.testing.assert_array_equal(caught["next_action"], action[:, 1:].reshape(-1, 4))
    np.testing.assert_allclose(caught["discount"], np.float32(0.98) * np.array([1, 1, 0, 1, 1, 1]))
    np.testing.assert_array_equal(caught["weight"], [1, 1, 1, 1, 0, 1])


def test_the_goal_is_a_state_and_compiles_nothing(agent):
    agent.freeze_fb()
    resets = [[True], [False], [False]]
    first = play(agent, resets)[2]
    programs = agent._policy._cache_size()
    agent.set_goal(-PSI)
    other = play(agent, resets)[2]
    assert np.array_equal(first["obs"]["image"], other["obs"]["image"])
    assert first["reward_fb"] != other["reward_fb"]
    assert agent._policy._cache_size() == programs
    with pytest.raises(UserError, match="384"):
        agent.set_goal(PSI[:-1])
    with pytest.raises(UserError, match="finite"):
        agent.set_goal(PSI * np.nan)


def test_two_learning_rates(agent):
    """After one step from fresh moments, an update has the size of the learning rate times its warm-up."""
    config = settings(opt__warmup=0, opt__agc=0.0)
    assert config.opt.lr == 1e-4 and config.actor_critic_lr == 3e-5  # Table A
    chain = agent.model.__class__._make_opt
    model = type("M", (), {"config": config})()
    params = {f"{name}/x/kernel": np.ones((3, 3), np.float32) for name in ("enc", "dyn", "rew", "pol", "val")}
    bound = chain.__get__(type("Bound", (agent.model.__class__,), {"__init__": lambda self: None})())
    bound.__self__.config = model.config
    opt = bound(**config.opt)
    grads = {key: np.full((3, 3), 0.01, np.float32) for key in params}
    with jax.transfer_guard("allow"):
        updates, _ = opt.update(grads, opt.init(params), params)
        sizes = {key.split("/")[0]: float(np.abs(value).mean()) for key, value in updates.items()}
    expected = {"enc": 1e-4, "dyn": 1e-4, "rew": 1e-4, "pol": 3e-5, "val": 3e-5}
    assert sizes == pytest.approx(expected, rel=1e-3)


def test_a_checkpoint_brings_everything_back(agent, tmp_path):
    """Parameters, optimiser states, goal, freezing, counters: and then the same actions and updates."""
    train(agent, 1)
    agent.freeze_fb()
    train(agent, 1)
    checkpoint.save_agent(agent, tmp_path / "here")
    saved = agent.save()
    checkpoint.load_agent(agent, tmp_path / "here")  # the policy's own copy lags behind training, a loaded one does not
    resets = [[True, False], [False, False], [False, False]]
    expected = play(agent, resets)
    train(agent, 2)
    agent.set_goal(-PSI)
    checkpoint.load_agent(agent, tmp_path / "here")
    restored = agent.save()
    assert restored["counters"] == saved["counters"] and agent.fb_frozen
    assert same(saved["params"], restored["params"], saved["params"])
    for one, other in zip(expected, play(agent, resets), strict=True):
        assert same(one, other, ("action", "reward_fb", "reward_fb_paid"))
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"agent.safetensors", "agent.json"}


def test_wrong_settings_are_sentences():
    for changes, word in (({"z": "both"}, "fb.z"), ({"z": "psi", "dim": 16}, "384"), ({"objective": "x"}, "objective")):
        with pytest.raises(UserError, match=word):
            make_agent(OBS, ACT, settings(), fb=fb_section(**changes), reward_interval=INTERVAL)


def test_training_without_a_goal_is_refused(agent):
    agent._goal_set = False
    with pytest.raises(RuntimeError, match="set_goal"):
        agent.train(None, {})


def test_actions_of_any_space_become_one_vector():
    """Classes as one-hot, numbers cut to [-1, 1], keys in order: what F sees is the same in training and in reward."""
    space = elements.Space
    spaces = {"b": space(np.float32, (2,), -1, 1), "a": space(np.int32, (), 0, 3), "c": space(np.int32, (2,), 0, 2)}
    module = ForwardBackward(spaces, resolve(fb_section()), name="fb")
    acts = {"a": np.array([2, 0]), "b": np.array([[0.5, -3], [1, 2.0]]), "c": np.array([[0, 1], [1, 1]])}
    with jax.transfer_guard("allow"):
        flat = np.asarray(module.flat_action(acts))
    np.testing.assert_array_equal(flat, [[0, 0, 1, 0.5, -1, 1, 0, 0, 1], [1, 0, 0, 1, 1, 0, 1, 0, 1]])
