"""The other side of every FB switch: pays_from=start, encoder=frozen, map=fixed, next_action=agent, z=psi."""

import jax
import ninjax as nj
import numpy as np
import pytest

from dreamerv3_patches.agent import make_agent
from tests.patches.test_agent import INTERVAL, PSI, paid, play, same, train
from tests.patches.tiny_agent import ACT, OBS, batch, fb_section, settings

CHOICES = dict(pays_from="start", encoder="frozen", map="fixed", next_action="agent", z="psi", dim=390)
RESETS = [[True, True], [False, False], [False, False]]


@pytest.fixture(scope="module")
def agent():
    agent = make_agent(OBS, ACT, settings(), fb=fb_section(**CHOICES), reward_interval=INTERVAL)
    agent.set_goal(PSI)
    return agent


def test_the_choices(agent):
    """One story, so that one agent is enough."""
    assert paid(play(agent, RESETS))[2].all()  # pays_from=start: before it is frozen
    before = agent.save()["params"]
    train(agent, 2)
    after = agent.save()["params"]
    maps = [key for key in after if key.startswith("fb/map/")]
    assert maps and same(before, after, maps)  # map=fixed
    assert not any(key.startswith("fb/opt/") and "/map/" in key for key in after)
    assert not same(before, after, ["fb/forward0/params/Dense_0/kernel"])

    agent.freeze_fb()
    state = agent.save()
    moved = {**state["params"], "enc/cnn0/kernel": state["params"]["enc/cnn0/kernel"] + 0.1}
    agent.load({**state, "params": moved})  # the live encoder goes on, the copy does not
    assert agent.encoder_drift(batch(agent)["image"][0]) > 1e-3
    row = play(agent, RESETS)[2]
    np.testing.assert_allclose(row["reward_fb"], reward_without_live_tokens(agent, row), rtol=1e-5)  # encoder=frozen
    assert row["reward_fb"].all()


def reward_without_live_tokens(agent, row):
    """r_FB of a row's observation and action, with zeros where the live encoder's tokens would be."""
    tokens = np.zeros((len(row["action"]), 1), np.float32)
    obs = {key: row["obs"][key] for key in OBS}
    pure = nj.pure(lambda: agent.model._reward(tokens, obs, {"action": row["action"]}))
    with jax.transfer_guard("allow"):
        return np.asarray(pure(agent.params, seed=0)[1])
