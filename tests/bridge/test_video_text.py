"""RoboCLIP's models: X-CLIP as transformers has it, S3D from a file like the published one, and what stands in."""

import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from genreward_jax.errors import UserError
from genreward_jax.library import GenReward
from torch_bridge.models import ModelSet

BOTH = ("embed_video", "embed_video_text")
WORDS = ["a", "arm", "close", "drawer", "robot", "the"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def videos(rng):
    return rng.integers(0, 256, (2, 16, 40, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def xclip(tmp_path_factory):
    """A small X-CLIP with random weights, saved by the library."""
    import torch

    from torch_bridge.repairs import repair_torchvision

    repair_torchvision()
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, XCLIPConfig, XCLIPModel

    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision = {**small, "image_size": 32, "patch_size": 8, "num_frames": 8, "mit_hidden_size": 16,
              "mit_intermediate_size": 32, "mit_num_hidden_layers": 1, "mit_num_attention_heads": 4}  # fmt: skip
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text = {**small, "vocab_size": 12, "max_position_embeddings": 10, **ends}
    config = XCLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    folder = tmp_path_factory.mktemp("xclip")
    XCLIPModel(config).eval().save_pretrained(folder)
    vocabulary = {"<bos>": 0, "<eos>": 1, "<unk>": 2, **{word: 3 + i for i, word in enumerate(WORDS)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<eos>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


def test_a_family_without_such_a_model_takes_the_mean_of_its_clips_frames(family, videos):
    models = ModelSet(str(family), (*BOTH, "embed_image", "embed_text"), device="cpu")
    want = [models.call("embed_image", video).mean(0) for video in videos]
    np.testing.assert_allclose(models.call("embed_video", videos), want, rtol=1e-5, atol=1e-6)
    texts = ["close the drawer", "a robot arm"]
    np.testing.assert_array_equal(models.call("embed_video_text", texts), models.call("embed_text", texts))
    assert models.describe()["models"]["video_text"]["class"] == "CLIP"


def test_xclip_is_the_librarys_own_forward(family, xclip, videos):
    """The library's whole forward gives unit embeddings of videos; ours are those before normalisation."""
    import torch
    from transformers import XCLIPModel

    models = ModelSet(str(family), BOTH, device="cpu", models={"video_text": str(xclip)})
    assert models.describe()["models"]["video_text"]["class"] == "XCLIPModel"
    found = models.call("embed_video", videos)
    model = XCLIPModel.from_pretrained(xclip).eval()
    holder = models.models["video_text"]
    picked = videos[:, np.round(np.linspace(0, 15, 8)).astype(int)].reshape(16, 40, 40, 3)
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(picked).permute(0, 3, 1, 2).float(), (32, 32), mode="bicubic", antialias=True
    )
    pixels = (resized.round().clamp(0, 255) / 255 - holder.mean) / holder.std
    tokens = torch.tensor([[6, 5, 8] + [1] * 7])
    with torch.no_grad():
        out = model(input_ids=tokens, pixel_values=pixels.view(2, 8, 3, 32, 32))
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, out.video_embeds.numpy(), atol=1e-5)
    texts = models.call("embed_video_text", ["close the drawer", "robot"])
    assert texts.shape == (2, 16) and not np.allclose(texts[0], texts[1])


def test_frames_are_as_large_as_the_model_that_stands_in_wants_them(family, xclip):
    models = ModelSet(str(family), BOTH, device="cpu", models={"video_text": str(xclip)})
    assert models.describe()["frame_size"] == 64  # the family's, X-CLIP's here are smaller
    models.models["video_text"].size = 224
    assert models.describe()["frame_size"] == 224
    models.load(["encode_video"])  # which would see other frames than its goal was made of
    assert models.describe()["frame_size"] == 64


def test_the_library_takes_it_by_name(family, xclip, rng, tmp_path, monkeypatch):
    monkeypatch.setenv("GENREWARD_CACHE", str(tmp_path))
    goal, window = rng.integers(0, 256, (2, 32, 64, 64, 3), dtype=np.uint8)
    settings = {"rewards": "roboclip", "prompt": "close the drawer", "video_text": str(xclip)}
    with GenReward(goal, str(family), **settings, say=lambda line: None) as reward:
        assert reward.frame_size == 64
        found = reward(window, ended=True)
    models = ModelSet(str(family), BOTH, device="cpu", models={"video_text": str(xclip)})
    want = models.call("embed_video", window[None])[0] @ models.call("embed_video_text", ["close the drawer"])[0]
    assert found == pytest.approx(want, rel=1e-4)
    given = SimpleNamespace(add_reward=None, spec=None)
    with pytest.raises(UserError, match="video_text cannot be set for a bridge that is given"):
        GenReward(goal, given, **settings)


def test_another_models_folder_is_refused(family, xclip, tmp_path):
    with pytest.raises(UserError, match="no folder here and no hub id"):
        ModelSet(str(family), BOTH, device="cpu", models={"video_text": "no/such/place"})
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes((xclip / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match="type 'bert'.*takes X-CLIP"):
        ModelSet(str(family), BOTH, device="cpu", models={"video_text": str(tmp_path)})


# --- S3D ---

# Some of the names and shapes of the published file, HowTo100M's s3d_howto100m.pth.
PUBLISHED = {
    "conv1.conv1.weight": (64, 24, 2, 4, 4), "conv_2c.conv1.weight": (192, 64, 1, 3, 3),
    "conv_2c.conv2.weight": (192, 192, 3, 1, 1), "conv_2c.bn2.running_var": (192,), "gating.fc.weight": (192, 192),
    "mixed_3b.conv_b1_a.conv1.weight": (96, 192, 1, 1, 1), "mixed_3c.conv_b0.conv1.weight": (128, 256, 1, 1, 1),
    "mixed_4f.gating_b3.fc.bias": (128,), "mixed_5b.conv_b3_b.bn1.weight": (128,),
    "mixed_5c.conv_b2_b.conv2.weight": (128, 128, 3, 1, 1), "fc.weight": (512, 1024),
    "text_module.word_embd.weight": (len(WORDS) + 1, 300), "text_module.fc1.weight": (2048, 300),
    "text_module.fc2.weight": (512, 2048),
}  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Files of the published kind: a state dictionary in torch's own format, and the words as a NumPy array."""
    import torch

    from torch_bridge.s3d import S3D

    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    model = S3D(len(WORDS) + 1).eval()
    torch.save(model.state_dict(), folder / "s3d_howto100m.pth")
    np.save(folder / "s3d_dict.npy", np.array(WORDS))
    return folder, model


def test_s3d_is_converted_once_and_gives_what_the_network_gives(family, published, tmp_path, videos):
    import torch

    files, model = published
    state = model.state_dict()
    assert {name: tuple(state[name].shape) for name in PUBLISHED} == PUBLISHED
    command = [
        sys.executable,
        "-m",
        "genreward_jax",
        "convert-s3d",
        files / "s3d_howto100m.pth",
        files / "s3d_dict.npy",
    ]
    done = subprocess.run([*command, "--out", tmp_path / "s3d"], capture_output=True, text=True)
    assert done.returncode == 0 and "METHOD=roboclip" in done.stdout, done.stderr
    assert sorted(p.name for p in (tmp_path / "s3d").iterdir()) == ["config.json", "model.safetensors", "words.json"]
    models = ModelSet(str(family), BOTH, device="cpu", models={"video_text": str(tmp_path / "s3d")})
    (short,) = models.call("embed_video", videos[:1, :15])
    still = torch.from_numpy(videos[:1, [*range(15), 14]]).permute(0, 4, 1, 2, 3).float()
    large = torch.nn.functional.interpolate(still[0].transpose(0, 1), (224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():
        want = model((large.round().clamp(0, 255) / 255).transpose(0, 1)[None])[0].numpy()
        words = model.text_module(torch.tensor([[3, 6, 4] + [0] * 13])).numpy()
    np.testing.assert_allclose(short, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(models.call("embed_video_text", ["Close the green drawer!"]), words, rtol=1e-5)
    again = subprocess.run([*command, "--out", tmp_path / "s3d"], capture_output=True, text=True)
    assert again.returncode == 2 and "exists already" in again.stderr


def test_a_file_that_holds_more_than_tensors_is_not_run(published, tmp_path):
    from torch_bridge.s3d import convert

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"fc.weight": Evil()}))
    with pytest.raises(UserError, match="are not the published weights"):
        convert(tmp_path / "evil.pth", published[0] / "s3d_dict.npy", tmp_path / "out")
    np.save(tmp_path / "more.npy", np.array([f"word{i}" for i in range(7)]))
    with pytest.raises(UserError, match="does not fit S3D with the 7 words"):
        convert(published[0] / "s3d_howto100m.pth", tmp_path / "more.npy", tmp_path / "out")
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out").exists()


def test_pooling_pads_at_the_end_as_the_published_network_does():
    """Zeros where a window reaches over the edge, the odd one at the end; against loops."""
    import torch

    from torch_bridge.s3d import _pool

    x = np.random.default_rng(0).uniform(0, 1, (1, 1, 5, 6, 6)).astype(np.float32)
    found = _pool(torch.from_numpy(x), (3, 3, 3), (2, 2, 2)).numpy()
    padded = np.zeros((7, 8, 8), np.float32)  # one more than the size and the kernel ask for, for the last window
    padded[:5, :6, :6] = x[0, 0]
    want = [[[padded[t : t + 3, i : i + 3, j : j + 3].max() for j in (0, 2, 4)] for i in (0, 2, 4)] for t in (0, 2, 4)]
    assert found.shape == (1, 1, 3, 3, 3)
    np.testing.assert_array_equal(found[0, 0], want)
