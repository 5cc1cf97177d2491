"""A user's rewards under an interpreter of their own, beside models and rewards under ours."""

import numpy as np
import pytest

from tests.other_python import numpy_alone
from torch_bridge.client import BridgeError, BridgeSpec, RewardSpec
from torch_bridge.guests import BridgeWithGuests

VIDEO = "genreward_jax.rewards.genreward:VideoReward"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    return numpy_alone(tmp_path_factory.mktemp("other") / "venv")


@pytest.fixture(scope="module")
def bridge(family, python):
    with BridgeWithGuests(BridgeSpec(str(family), python=python), ("encode_video", "embed_text")) as bridge:
        yield bridge


def test_guests_run_where_there_is_numpy_alone_and_the_models_here(bridge, make_window):
    goal, window = make_window(), make_window()
    bridge.add_reward("packages", RewardSpec("tests.bridge.user_rewards:Packages", goal))
    bridge.add_reward("video", RewardSpec(VIDEO, goal))
    payment = bridge.pay("packages", window).result(60)
    about = bridge.describe()
    assert payment.values == [float(window.frames[-1].mean())]
    assert payment.diagnostics == {"pid": about["guests"]["pid"], "torch": 0, "diffusers": 0, "numpy": 1}
    assert about["pid"] != about["guests"]["pid"] and about["models"]
    assert bridge.pay("video", goal).result(60).values == pytest.approx([1.0], abs=1e-9)
    assert bridge.call("embed_text", ["a drawer"]).result(60).ndim == 2
    assert bridge.stats()["requests"] >= 5 and bridge.stats()["restarts"] == 0
    with pytest.raises(BridgeError, match="no reward 'missing'"):
        bridge.tell("missing", "state")


def test_a_guest_that_needs_our_models_is_told_what_its_interpreter_lacks(bridge, python):
    with pytest.raises(BridgeError, match=f"needs embed_image, for which {python} lacks torch: install it there"):
        bridge.add_reward("needy", RewardSpec("tests.bridge.user_rewards:Needy"))
    assert bridge.call("embed_text", ["still there"]).result(60).shape[0] == 1


def test_an_interpreter_that_cannot_start_is_a_sentence(family):
    bridge = BridgeWithGuests(BridgeSpec(str(family), python="/no/python"), ())
    try:
        with pytest.raises(BridgeError, match="could not be started with '/no/python'"):
            bridge.start()
    finally:
        bridge.close()
    assert not np.any([process.is_alive() for process in (bridge._thread, bridge._guests._thread)])
