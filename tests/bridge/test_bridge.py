"""The bridge process in use: answers, errors as sentences, rewards of one's own, release."""

import numpy as np
import pytest

from genreward_jax.rewards.genreward import cosine
from torch_bridge.client import Bridge, BridgeError, BridgeSpec, RewardSpec
from torch_bridge.dlpack import to_jax

CAPABILITIES = ("encode_video", "embed_image", "embed_text", "embed_state")


@pytest.fixture(scope="module")
def bridge(family):
    with Bridge(BridgeSpec(family=str(family)), CAPABILITIES) as bridge:
        yield bridge


def ask(bridge, *request):
    return bridge.call(*request).result(60)


def test_it_says_what_it_runs(bridge, family):
    said = bridge.describe()
    assert (said["frame_size"], bridge.frame_size, said["trained"], said["device"]) == (64, 64, True, "cpu")
    classes = {kind: model["class"] for kind, model in said["models"].items()}
    assert classes == {"vae": "AutoencoderKLCogVideoX", "clip": "CLIP", "dino": "DINOv3ViTModel"}
    assert said["folder"] == str(family) and said["versions"]["torch"] and said["dtype"] == "float32"


def test_video_reward_is_the_cosine_of_the_latents(bridge, make_window):
    """Eq. 3 to 5, through the child, against the formula on the latents that it gives."""
    goal, windows = make_window(), [make_window() for _ in range(6)]
    z_goal = ask(bridge, "encode_video", goal.frames)
    assert z_goal.shape == (16, 4, 8, 8) and z_goal.dtype == np.float32
    bridge.add_reward("video", RewardSpec("genreward_jax.rewards.genreward:VideoReward", goal, {"interval": 128}))
    payments = [bridge.pay("video", window) for window in windows]  # all at once: some are stacked
    for window, payment in zip(windows, payments, strict=True):
        z = ask(bridge, "encode_video", window.frames)
        expected = np.dot(z.ravel(), z_goal.ravel()) / (np.linalg.norm(z) * np.linalg.norm(z_goal))
        assert payment.result(60).values == pytest.approx([expected], abs=1e-6)
        assert cosine(z, z_goal) == pytest.approx(expected, abs=1e-6)
    assert bridge.pay("video", goal).result(60).values == pytest.approx([1.0], abs=1e-9)


def test_embeddings_have_their_shapes_and_lengths(bridge, make_window):
    frames = make_window().frames
    images, texts = ask(bridge, "embed_image", frames), ask(bridge, "embed_text", ["Pick up the cup", "zebra"])
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), np.ones(16), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), np.ones(2), rtol=1e-5)
    assert images.shape[1] == texts.shape[1] and abs(texts[0] @ texts[1]) < 0.999
    assert ask(bridge, "embed_state", frames[:3]).shape == (3, 384)


def test_latents_enter_jax_at_their_own_address(bridge, make_window):
    latents = ask(bridge, "encode_video", make_window().frames)
    assert to_jax(latents).unsafe_buffer_pointer() == latents.ctypes.data


def test_a_users_own_reward(bridge, make_window):
    bridge.add_reward("text", RewardSpec("user_rewards:TextReward", settings={"text": "open the door"}))
    window = make_window()
    similarity = ask(bridge, "embed_image", window.frames) @ ask(bridge, "embed_text", ["open the door"])[0]
    paid = bridge.pay("text", window).result(60)
    assert paid.values == pytest.approx([similarity.mean()], abs=1e-6)
    assert paid.diagnostics["best"] == pytest.approx(similarity.max(), abs=1e-6)


def test_a_reward_with_a_memory_is_called_in_order(bridge, make_window):
    bridge.add_reward("counting", RewardSpec("user_rewards:Counting"))
    bridge.tell("counting", "observe", [{"reward": np.float32(0)}] * 3).result(60)
    payments = [bridge.pay("counting", make_window()) for _ in range(5)]
    assert [p.result(60).values for p in payments] == [[3.0, float(i)] for i in range(1, 6)]
    bridge.tell("counting", "load", {"rows": np.array(40)}).result(60)
    assert bridge.tell("counting", "state").result(60)["rows"] == 40


def test_non_finite_values_come_as_they_are(bridge, make_window):
    """Refusing them is the shaper's business."""
    bridge.add_reward("nan", RewardSpec("user_rewards:NotFinite"))
    assert np.isnan(bridge.pay("nan", make_window()).result(60).values[0])


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("user_rewards:Broken", r"reward 'bad' \(Broken\) failed: ZeroDivisionError: division by zero"),
        ("user_rewards:Undeclared", "reward 'bad' uses embed_state but names nothing in its `needs`"),
    ],
)
def test_an_error_in_a_reward_is_one_sentence(bridge, make_window, path, said):
    bridge.add_reward("bad", RewardSpec(path))
    with pytest.raises(BridgeError, match=said) as caught:
        bridge.pay("bad", make_window()).result(60)
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)
    assert ask(bridge, "embed_text", ["still there"]).shape[0] == 1
    if "Broken" in path:
        log = open(str(caught.value).split("see ")[-1].rstrip(")")).read()
        assert "Traceback" in log and "user_rewards.py" in log


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere:Reward", "No module named 'nowhere'"),
        ("user_rewards:Missing", "has no attribute 'Missing'"),
        ("user_rewards:NoReward", "is no reward"),
    ],
)
def test_a_reward_that_cannot_be_made(bridge, make_window, path, said):
    with pytest.raises(BridgeError, match=said):
        bridge.add_reward("missing", RewardSpec(path, goal=None))
    with pytest.raises(BridgeError, match="no reward 'missing'"):
        bridge.pay("missing", make_window())


def test_an_error_in_a_model_is_one_sentence(bridge):
    with pytest.raises(BridgeError, match="embed_state takes uint8 frames"):
        ask(bridge, "embed_state", np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(BridgeError) as caught:
        ask(bridge, "encode_video", np.zeros((16, 4, 4, 3), np.uint8))  # too small for the autoencoder
    assert "\n" not in str(caught.value)


def test_a_message_that_cannot_be_sent_is_an_error(bridge, monkeypatch):
    def full(message):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(bridge._child, "send", full)
        with pytest.raises(BridgeError, match="could not be asked: .*Too many open files"):
            ask(bridge, "embed_text", ["a cup"])
    assert ask(bridge, "embed_text", ["a cup"]).shape[0] == 1 and bridge.stats()["pending"] == 0


def test_many_windows_may_wait(bridge, make_window, tmp_path):
    """More than a process may usually have open files."""
    bridge.add_reward("patient", RewardSpec("user_rewards:Patient", settings={"until": str(tmp_path / "go")}))
    window = make_window(size=8)
    payments = [bridge.pay("patient", window) for _ in range(1200)]
    ask(bridge, "embed_text", ["read after them"])
    (tmp_path / "go").touch()
    assert [p.result(60).values for p in payments] == [[8.0]] * 1200


def test_stats_count(bridge):
    before = bridge.stats()
    ask(bridge, "embed_state", np.zeros((1, 64, 64, 3), np.uint8))
    after = bridge.stats()
    assert after["requests"] == before["requests"] + 1 and after["restarts"] == after["pending"] == 0
    assert after["bytes"] > before["bytes"] + 64 * 64 * 3 and after["latency_ms"] > 0


def test_release_drops_what_nobody_needs(bridge, make_window):
    """Last in this file: afterwards the image models are gone."""
    bridge.release({"encode_video"})
    assert ask(bridge, "encode_video", make_window().frames).shape == (16, 4, 8, 8)
    with pytest.raises(BridgeError, match="embed_state was not asked for"):
        ask(bridge, "embed_state", np.zeros((1, 64, 64, 3), np.uint8))
    assert bridge.pay("text", make_window()).result(60).values  # its reward still needs CLIP
