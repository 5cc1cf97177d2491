"""The models in this process: the random family, what the libraries give directly, and what is refused."""

import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest

from genreward_jax.errors import UserError
from genreward_jax.rewards.genreward import cosine
from torch_bridge import embedded, families
from torch_bridge.models import ModelSet  # imports torch, and mends torchvision when a set is made

# What a family names models for; the others have tests of their own.
ALL = tuple(name for name, kind in families.MODEL_OF.items() if kind not in families.OWN)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in the bridge process; several test processes with several threads each would only wait for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def models(family):
    return ModelSet(str(family), ALL, device="cpu")


@pytest.fixture
def frames(rng):
    return rng.integers(0, 256, (3, 16, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Empty caches of ours and of the hub, and no network."""
    monkeypatch.setenv("GENREWARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def refuse(*args, **kwargs):
        raise socket.gaierror(-2, "no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tmp_path


# --- the random family ---


def test_the_seed_makes_the_family(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        embedded.make(tmp_path / name, seed=seed)
    read = {n: {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in "abc"}
    assert read["a"] == read["b"]
    weights = [p for p in read["a"] if p.suffix == ".safetensors"]
    assert len(weights) == 5 and all(read["a"][p] != read["c"][p] for p in weights)
    assert not [p for p in read["a"] if p.suffix not in (".safetensors", ".json")]
    assert sum(len(content) for content in read["a"].values()) < 20e6
    manifest = json.loads((tmp_path / "a" / "family.json").read_text())
    assert manifest["frame_size"] == 64 and manifest["trained"] is False
    assert manifest["folders"] == {"vae": "vae", "clip": "clip", "dino": "dino"}


def test_another_frame_size(tmp_path):
    """A family that wants 96x96 goes the same way."""
    (tmp_path / "big").mkdir()
    embedded.make(tmp_path / "big", frame_size=96)
    big = ModelSet(str(tmp_path / "big"), ALL, device="cpu")
    assert big.describe()["frame_size"] == 96
    frames = np.zeros((1, 16, 96, 96, 3), np.uint8)
    assert big.call("encode_video", frames).shape == (1, 16, 4, 12, 12)
    assert big.call("embed_state", frames[0, :2]).shape == (2, 384)
    assert big.call("embed_regions", frames[0, :2]).shape == (2, 4 * 384)
    assert big.call("embed_image", frames[0, :2]).shape[0] == 2


# --- the same numbers as the libraries give directly ---


def test_latents_are_diffusers_own(models, family, frames):
    import torch
    from diffusers import AutoencoderKLCogVideoX

    vae = AutoencoderKLCogVideoX.from_pretrained(family / "vae", use_safetensors=True).eval()
    video = torch.from_numpy(frames[:1].astype(np.float32) / 127.5 - 1).permute(0, 4, 1, 2, 3)
    with torch.inference_mode():
        direct = vae.encode(video).latent_dist.mean.numpy()
    ours = models.call("encode_video", frames[:1])
    assert ours.dtype == np.float32 and ours.shape == (1, 16, 4, 8, 8)
    np.testing.assert_allclose(ours, direct, atol=1e-5)


def test_embeddings_are_open_clips_own(models, family, frames):
    """Through the library's own transform of pictures, also from another size."""
    import open_clip
    import torch
    from PIL import Image

    name = f"local-dir:{family / 'clip'}"
    model, _, transform = open_clip.create_model_and_transforms(name)
    pictures = np.kron(frames[0, :2, :24, :24], np.ones((1, 5, 5, 1), np.uint8))  # 120x120, without fine grain
    for images in (frames[0, :2], pictures):
        with torch.inference_mode():
            batch = torch.stack([transform(Image.fromarray(image)) for image in images])
            direct = model.eval().encode_image(batch, normalize=True).numpy()
        np.testing.assert_allclose(models.call("embed_image", images), direct, atol=5e-3)  # two ways of resizing
    texts = ["Pick up the cup", "an unheard-of zebra"]
    with torch.inference_mode():
        direct = model.encode_text(open_clip.get_tokenizer(name)(texts), normalize=True).numpy()
    np.testing.assert_allclose(models.call("embed_text", texts), direct, atol=1e-6)


def test_states_are_transformers_own(models, family, frames):
    import torch
    from transformers import DINOv3ViTModel

    model = DINOv3ViTModel.from_pretrained(family / "dino").float().eval()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = torch.from_numpy(((frames[0, :2] / 255 - mean) / std).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        direct = model(pixel_values=pixels)
    np.testing.assert_allclose(models.call("embed_state", frames[0, :2]), direct.pooler_output.numpy(), atol=1e-5)
    side = model.config.image_size // model.config.patch_size
    patches = direct.last_hidden_state[:, 1 + model.config.num_register_tokens :].numpy()
    grid = patches.reshape(2, 2, side // 2, 2, side // 2, -1)  # the picture's halves, rows and columns within
    quarters = grid.mean((2, 4)).reshape(2, -1)
    np.testing.assert_allclose(models.call("embed_regions", frames[0, :2]), quarters, atol=1e-5)


@pytest.mark.parametrize("slicing", [True, False])
def test_a_batch_gives_each_its_own_numbers(models, frames, slicing):
    """Stacked calls must not couple videos, whether the encoder takes them together or in turn."""
    models.models["vae"].model.use_slicing = slicing
    together = models.call("encode_video", frames)
    for i in range(3):
        np.testing.assert_allclose(models.call("encode_video", frames[i : i + 1])[0], together[i], atol=1e-5)
    models.models["vae"].model.use_slicing = True
    for name in ("embed_image", "embed_state", "embed_regions"):
        one = models.call(name, frames[0, 5:6])
        np.testing.assert_allclose(models.call(name, frames[0])[5:6], one, atol=1e-5)


def test_bfloat16_models_give_float32_and_a_cosine_in_full(family, models, frames):
    """Near 1 a bfloat16 has steps of 0.004: the cosine must keep more than that."""
    half = ModelSet(str(family), ALL, dtype="bfloat16", device="cpu")
    z, near = half.call("encode_video", frames[:1]), frames[:1].copy()
    near[0, :, :4, :4] //= 2
    z_near = half.call("encode_video", near)
    assert z.dtype == np.float32
    full = models.call("encode_video", frames[:1])
    assert np.abs(z - full).max() < 0.1 * np.abs(full).max()
    value = cosine(z, z_near)
    expected = (z.astype(np.float64) * z_near).sum() / np.sqrt((z.astype(np.float64) ** 2).sum())
    expected /= np.sqrt((z_near.astype(np.float64) ** 2).sum())
    assert value == pytest.approx(expected, abs=1e-12) and 0.996 < value < 1
    for name, argument in (("embed_image", frames[0, :2]), ("embed_text", ["a cup"]), ("embed_state", frames[0, :2])):
        got, want = half.call(name, argument), models.call(name, argument)
        assert got.dtype == np.float32 and cosine(got, want) > 0.99


def test_only_what_is_asked_for_is_loaded_and_release_lets_go(family):
    some = ModelSet(str(family), {"embed_text"}, device="cpu")
    assert set(some.models) == {"clip"}
    with pytest.raises(UserError, match="embed_state was not asked for"):
        some.call("embed_state", np.zeros((1, 64, 64, 3), np.uint8))
    some.release(())
    assert not some.models


# --- where models come from ---


def cogvideox_folder(family: Path, folder: Path) -> Path:
    """A folder as diffusers lays out the whole pipeline, of which only the autoencoder is there."""
    shutil.copytree(family / "vae", folder / "vae")
    (folder / "transformer").mkdir()
    (folder / "transformer" / "config.json").write_text(json.dumps({"sample_height": 60, "sample_width": 90}))
    return folder


def test_a_cogvideox_folder(family, cache):
    folder = cogvideox_folder(family, cache / "CogVideoX")
    models = ModelSet(str(folder), {"encode_video"}, device="cpu")
    assert models.family.frame_size == 480 and models.family.trained
    assert models.call("encode_video", np.zeros((1, 16, 64, 64, 3), np.uint8)).shape == (1, 16, 4, 8, 8)


def test_hub_models_on_this_disk_ask_nobody(family, cache):
    """In the hub's own cache, or in ours, without network; CLIP and DINO are then the paper's."""
    commit = cache / "hub" / "models--owner--CogVideoX" / "snapshots" / ("0" * 40)
    cogvideox_folder(family, commit)
    (commit.parent.parent / "refs").mkdir()
    (commit.parent.parent / "refs" / "main").write_text("0" * 40)
    shutil.copytree(family / "clip", cache / "cache" / "models" / families.PAPER_CLIP)
    shutil.copytree(family / "dino", cache / "cache" / "models" / families.PAPER_DINO)
    models = ModelSet("owner/CogVideoX", ALL, device="cpu", say=pytest.fail)
    assert models.family.name == "owner/CogVideoX" and set(models.models) == {"vae", "clip", "dino"}


def test_without_network_and_files_it_says_what_to_fetch(family, cache):
    said = []
    with pytest.raises(UserError) as caught:
        ModelSet("owner/name", {"encode_video"}, device="cpu", say=said.append)
    text = str(caught.value)
    assert "`hf download owner/name" in text and f"--local-dir {cache}/cache/models/owner/name" in text
    assert "--revision" not in text and "vae/*.safetensors" in text and "\n" not in text and "owner/name" in said[0]
    folder = cogvideox_folder(family, cache / "CogVideoX")
    with pytest.raises(
        UserError, match=f"{families.PAPER_DINO}.*embed_state.*accept its licence.*hf download.*--revision"
    ):
        ModelSet(str(folder), {"embed_state"}, device="cpu", say=said.append)


@pytest.mark.parametrize(
    ("kind", "capability"), [("vae", "encode_video"), ("clip", "embed_text"), ("dino", "embed_state")]
)
def test_pickled_weights_are_refused(family, tmp_path, kind, capability):
    copy = shutil.copytree(family, tmp_path / "family")
    weights = next((copy / kind).glob("*.safetensors"))
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(UserError, match=r"only pytorch_model.bin, which may run code.*\.safetensors"):
        ModelSet(str(copy), {capability}, device="cpu")


def test_wrong_names_are_said(family, tmp_path):
    for arguments, said in (
        (("no-such-folder", ALL), "no folder here and no hub id"),
        ((str(tmp_path), ALL), "holds neither family.json nor vae/config.json"),
        ((str(family), {"smell"}), "unknown capability 'smell'"),
        ((str(family), ALL, "float64"), "unknown dtype 'float64'"),
        ((str(family), ALL, "float32", "tpu"), "unknown bridge device 'tpu'"),
    ):
        with pytest.raises(UserError, match=said):
            ModelSet(*arguments)
    copy = shutil.copytree(family, tmp_path / "family")
    (copy / "family.json").write_text('{"folders": {}}')
    with pytest.raises(UserError, match="needs folders, frame_size and trained"):
        ModelSet(str(copy), ALL)
    (copy / "family.json").write_text('{"folders": {"vae": "../../x"}, "frame_size": 64, "trained": true}')
    with pytest.raises(UserError, match="no folder beside it and no hub id"):
        ModelSet(str(copy), ALL)
    (copy / "family.json").write_text('{"folders": {"vae": "vae"}, "frame_size": 64, "trained": true}')
    with pytest.raises(UserError, match="has no dino, which embed_state needs"):
        ModelSet(str(copy), {"embed_state"})


def test_broken_weights_are_one_sentence(family, tmp_path):
    copy = shutil.copytree(family, tmp_path / "family")
    next((copy / "vae").glob("*.safetensors")).write_bytes(b"not a tensor")
    with pytest.raises(UserError, match="could not be loaded as the vae") as caught:
        ModelSet(str(copy), {"encode_video"}, device="cpu")
    assert "\n" not in str(caught.value)


def test_the_digest_knows_other_weights(family, tmp_path):
    copy = shutil.copytree(family / "clip", tmp_path / "clip")
    assert families.digest([copy]) == families.digest([family / "clip"])
    weights = copy / "open_clip_model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[len(changed) // 2] ^= 1
    weights.write_bytes(changed)
    assert families.digest([copy]) != families.digest([family / "clip"])
