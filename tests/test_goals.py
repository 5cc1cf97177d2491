"""Goals: the key frame of eq. 6, what is sampled, what is kept, and a real bridge at the end."""

import sys
from concurrent.futures import Future

import numpy as np
import pytest

from genreward_jax import goals
from genreward_jax.errors import UserError
from genreward_jax.goals import load_goal, make_goal, ranked, text_similarity


class PlainBridge:
    """Known unit embeddings instead of models: a frame's first pixel is its number, a text's length its own."""

    def __init__(self, frames: int = 40, texts: int = 4, width: int = 8, features: int = 384):
        rng = np.random.default_rng(0)
        unit = lambda x: (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)  # noqa: E731
        self.images, self.words = unit(rng.standard_normal((frames, width))), unit(rng.standard_normal((texts, width)))
        self.states = rng.standard_normal((frames, features)).astype(np.float32)
        self.asked, self.dtype, self.clip, self.vae = [], "float32", "a", "v"

    def describe(self):
        return {"digests": {"vae": self.vae, "clip": self.clip, "dino": "d"}, "dtype": self.dtype}

    def call(self, capability, argument):
        self.asked.append((capability, len(argument)))
        table = {"embed_image": self.images, "embed_text": self.words, "embed_state": self.states}[capability]
        rows = [len(text) for text in argument] if capability == "embed_text" else argument[:, 0, 0, 0]
        future = Future()
        future.set_result(table[np.asarray(rows)])
        return future


def numbered(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A video whose frame i has the value i everywhere."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, height, width, 3)).copy()


def build(bridge, count=40, prompts=("a", "abc"), **options):
    return make_goal(numbered(count), 8.0, "numbers", prompts, bridge, 32, **options)


def test_similarity_is_eq_6():
    """Cosine of text and frame, averaged over prompts, for every frame, in chunks or not."""
    bridge = PlainBridge(frames=70)
    got = text_similarity(bridge, numbered(70), ("a", "abc"))
    for frame in range(70):
        image = bridge.images[frame]
        cosines = [bridge.words[n] @ image / np.linalg.norm(bridge.words[n]) / np.linalg.norm(image) for n in (1, 3)]
        assert got[frame] == pytest.approx(np.mean(cosines), abs=1e-6)
    assert got.dtype == np.float32 and max(n for _, n in bridge.asked) <= 32


def test_rank_picks_the_kth_best():
    similarity = np.array([0.1, 0.7, 0.3, 0.7, -0.2], np.float32)
    assert [ranked(similarity, k) for k in (1, 2, 3, 4, 5)] == [1, 3, 2, 0, 4]
    assert ranked(similarity, 1) == np.argmax(similarity)


def test_a_goal_holds_key_frame_features_and_sixteen_frames():
    bridge = PlainBridge()
    goal = build(bridge)
    best = int(np.argmax(goal.similarity))
    assert goal.key_index == best and (goal.key_frame == best).all() and goal.key_frame.shape == (48, 64, 3)
    np.testing.assert_array_equal(goal.psi, bridge.states[best])
    assert goal.psi.shape == (384,) and goal.psi.dtype == np.float32
    assert goal.video.shape == (40, 32, 32, 3) and goal.frames.shape == (16, 32, 32, 3)
    assert goal.frames[:, 0, 0, 0].tolist() == np.round(np.linspace(0, 39, 16)).tolist()  # section 3.2: uniformly
    second = build(bridge, rank=2)
    assert second.key_index == np.argsort(-goal.similarity)[1] and second.digest != goal.digest


def test_a_short_video_is_repeated_and_said():
    said = []
    goal = build(PlainBridge(), count=1, say=said.append)
    assert goal.frames.shape == (16, 32, 32, 3) and goal.key_index == 0 and len(said) == 1
    assert "only 1 frame:" in said[0] and "16" in said[0]
    build(PlainBridge(), count=16, say=pytest.fail)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 41}, "--goal.rank 41 is not among the 40 frames"),
        ({"rank": 0}, "--goal.rank 0"),
        ({"prompts": ()}, "--goal.prompt"),
        ({"prompts": ("",)}, "--goal.prompt"),
    ],
)
def test_wrong_goals_are_sentences(options, said):
    with pytest.raises(UserError, match=said):
        build(PlainBridge(), **options)


def test_features_must_be_384():
    with pytest.raises(UserError, match="768 numbers a frame where 384 are needed"):
        build(PlainBridge(features=768))


def test_the_same_content_is_made_once(tmp_path):
    """Another prompt, rank, size, video or model is another goal; another name for the same video is not."""
    bridge = PlainBridge()
    first = build(bridge, cache_dir=tmp_path)
    asked = len(bridge.asked)
    again = make_goal(numbered(40), 9.0, "other name", ("a", "abc"), bridge, 32, cache_dir=tmp_path)
    assert len(bridge.asked) == asked and (again.source, again.fps) == ("other name", 9.0)
    for name in ("frames", "video", "similarity", "psi", "key_frame", "key_index", "digest", "prompts", "rank"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    digests = {first.digest}
    for change in (
        {"prompts": ("a",)},
        {"rank": 2},
        {"frames": 8},
        {"count": 39},
    ):
        digests.add(build(bridge, cache_dir=tmp_path, **change).digest)
    bridge.clip = "b"
    digests.add(build(bridge, cache_dir=tmp_path).digest)
    bridge.vae = "w"  # it makes no part of the goal, but the reward compares latents of its own
    digests.add(build(bridge, cache_dir=tmp_path).digest)
    bridge.dtype = "bfloat16"
    digests.add(build(bridge, cache_dir=tmp_path).digest)
    assert len(digests) == 8 == len(list(tmp_path.iterdir()))


def test_save_and_load(tmp_path):
    """A run directory's goal folder, written over an older one."""
    build(PlainBridge(), prompts=("a",)).save(tmp_path / "run" / "goal")
    goal = build(PlainBridge())
    goal.save(tmp_path / "run" / "goal")
    files = {"goal.mp4", "key_frame.png", "similarity.png", "goal.json", "goal.safetensors"}
    assert {p.name for p in (tmp_path / "run" / "goal").iterdir()} == files
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["goal"]
    loaded = load_goal(tmp_path / "run" / "goal")
    kept = tmp_path / "cache"
    kept.mkdir()
    (kept / "video.mp4").write_bytes(b"as it was generated")
    for folder in (kept, tmp_path / "run" / "goal" / "generated"):  # from the cache, then from the run itself
        goal.generated = str(folder)
        goal.save(tmp_path / "run" / "goal")
        assert (tmp_path / "run" / "goal" / "generated" / "video.mp4").read_bytes() == b"as it was generated"
    for name in ("frames", "similarity", "psi", "key_frame", "key_index", "digest", "prompts", "rank", "fps", "source"):
        np.testing.assert_array_equal(getattr(goal, name), getattr(loaded, name))
    assert loaded.video.shape == goal.video.shape and abs(loaded.video.astype(int) - goal.video).max() < 6
    with pytest.raises(UserError, match="holds no goal"):
        load_goal(tmp_path)


def test_a_real_bridge_makes_the_same_goal_twice(tmp_path):
    """Real library classes: the arg max is CLIP's own, the features are DINOv3's for that frame.

    The interpreter is given by its path, as another one would be.
    """
    from torch_bridge.client import Bridge, BridgeSpec

    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (20, 96, 128, 3), dtype=np.uint8)
    prompts = ("a robot arm picks up a cup", "a cup on a table")
    with Bridge(BridgeSpec(python=sys.executable), {"embed_image", "embed_text", "embed_state"}) as bridge:
        goal = make_goal(video, 8.0, "noise", prompts, bridge, bridge.frame_size, cache_dir=tmp_path)
        images = bridge.call("embed_image", video).result(60)
        texts = bridge.call("embed_text", list(prompts)).result(60)
        state = bridge.call("embed_state", video[goal.key_index][None]).result(60)[0]
        same = make_goal(video, 8.0, "noise", prompts, bridge, bridge.frame_size, cache_dir=None)
    np.testing.assert_allclose(goal.similarity, (images @ texts.T).mean(1), atol=1e-6)
    assert goal.key_index == np.argmax(goal.similarity) == same.key_index
    np.testing.assert_allclose(goal.psi, state, atol=1e-6)
    np.testing.assert_array_equal(goal.psi, same.psi)
    assert goal.frames.shape == (16, 64, 64, 3) and goals.FEATURES == len(goal.psi)
