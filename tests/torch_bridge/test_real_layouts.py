"""The real models' folder layouts, in small: loaded from folders and through a hub, in both dtypes, and run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from genreward_jax.errors import UserError
from tests.torch_bridge import fake_models
from tests.torch_bridge.fake_hub import Hub
from torch_bridge import families, hub, memory
from torch_bridge.models import ModelSet

ROOT = Path(__file__).resolve().parents[2]
IDS = {"1.0": "THUDM/CogVideoX-5b-I2V", "1.5": "THUDM/CogVideoX1.5-5B-I2V"}
# What these repositories are fetched for in training; generation and denoising want the whole pipeline.
NAMED = [capability for capability, kind in families.MODEL_OF.items() if kind not in families.OWN]
TEXTS = ["a robot arm opens the drawer", "an unheard-of zebra"]
FROM_THE_HUB = """
import sys
import numpy as np, torch
torch.set_num_threads(1)
from torch_bridge.models import ModelSet
sys.path.insert(0, ".")
from tests.torch_bridge.test_real_layouts import NAMED, outputs, video
for name, out in zip(sys.argv[1::2], sys.argv[2::2]):
    np.savez(out, **outputs(ModelSet(name, NAMED, dtype="bfloat16", device="cpu"), video()))
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Hub id to the folder of its small fake; the cache of hand-made copies holds CLIP and DINO."""
    root = tmp_path_factory.mktemp("layouts")
    folders = {IDS[version]: fake_models.cogvideox(root / IDS[version], version) for version in IDS}
    folders[hub.PAPER_CLIP] = fake_models.clip(root / hub.PAPER_CLIP)
    folders[hub.PAPER_DINO] = fake_models.dino(root / hub.PAPER_DINO)
    return folders


@pytest.fixture
def cache(made, tmp_path, monkeypatch):
    """A cache into which CLIP and DINO were put by hand, where no hub is asked."""
    for repo in (hub.PAPER_CLIP, hub.PAPER_DINO):
        shutil.copytree(made[repo], tmp_path / "models" / repo)
    monkeypatch.setenv("GENREWARD_CACHE", str(tmp_path))
    return tmp_path


def video(height: int = 64, width: int = 64) -> np.ndarray:
    """uint8 (1, 8, height, width, 3) with large and small structure."""
    grid = np.random.default_rng(0).integers(0, 256, (1, 8, height // 16, width // 16, 3))
    return np.kron(grid, np.ones((1, 1, 16, 16, 1))).astype(np.uint8)


def outputs(models: ModelSet, frames: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "encode_video": models.call("encode_video", frames),
        "embed_image": models.call("embed_image", frames[0, :2]),
        "embed_text": models.call("embed_text", TEXTS),
        "embed_state": models.call("embed_state", frames[0, :2]),
    }


@pytest.mark.parametrize("version", IDS)
def test_a_folder_in_both_dtypes(made, cache, version):
    """Every capability, finite, of the right shape, and the same in bfloat16 up to its coarseness."""
    said = {}
    for dtype in ("float32", "bfloat16"):
        models = ModelSet(str(made[IDS[version]]), NAMED, dtype=dtype, device="cpu", say=pytest.fail)
        assert models.family.frame_size == {"1.0": fake_models.HEIGHT, "1.5": 480}[version]
        said[dtype] = outputs(models, video())
    shapes = {name: value.shape for name, value in said["float32"].items()}
    assert shapes == {
        "encode_video": (1, 16, 2, 8, 8),
        "embed_image": (2, 32),
        "embed_text": (2, 32),
        "embed_state": (2, 48),
    }
    for name, full in said["float32"].items():
        half = said["bfloat16"][name]
        assert full.dtype == half.dtype == np.float32 and np.isfinite(full).all() and full.std() > 0
        assert np.abs(half - full).max() < 0.1 * np.abs(full).max()


def test_through_a_hub(made, cache, tmp_path):
    """What a fresh machine gets is what the folder gives; training fetches the autoencoder and no more."""
    out = {IDS[version]: tmp_path / f"{version}.npz" for version in IDS}
    with Hub(made, {repo: hub.PINNED[repo] for repo in made}) as server:
        done = subprocess.run(
            [sys.executable, "-c", FROM_THE_HUB, *(str(part) for pair in out.items() for part in pair)],
            cwd=ROOT,
            env={**os.environ, **server.environment(tmp_path / "fresh")},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        parts = [path[1:].split("/resolve/") for _, path, _ in server.asked if "/resolve/" in path]
        asked = {repo: {rest.split("/", 1)[1] for name, rest in parts if name == repo} for repo in made}
        assert {rest.split("/")[0] for name, rest in parts} == set(server.commits.values())
    video_files = {"transformer/config.json", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"}
    assert asked == {repo: video_files for repo in IDS.values()} | {
        hub.PAPER_CLIP: {"open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"},
        hub.PAPER_DINO: {"config.json", "model.safetensors", "preprocessor_config.json"},
    }
    assert all(f"Fetching the model {repo}" in done.stdout for repo in made)
    for repo in out:
        expected = outputs(ModelSet(str(made[repo]), NAMED, dtype="bfloat16", device="cpu"), video())
        with np.load(out[repo]) as got:
            for name, value in expected.items():
                np.testing.assert_array_equal(got[name], value)


def test_the_older_clip_of_the_same_repository_is_left_alone(made, cache):
    """Its weights for transformers lie beside ours; the words are those that open_clip brings along."""
    import open_clip

    models = ModelSet(str(made[IDS["1.0"]]), {"embed_text"}, device="cpu")
    clip = models.models["clip"]
    assert isinstance(clip.tokenizer, open_clip.SimpleTokenizer)
    with torch.inference_mode():
        direct = clip.model.encode_text(open_clip.get_tokenizer("ViT-B-32")(TEXTS), normalize=True).numpy()
    np.testing.assert_allclose(models.call("embed_text", TEXTS), direct, atol=1e-6)


@pytest.mark.parametrize("version", IDS)
def test_the_whole_pipeline_loads_and_runs(made, version):
    """Weights in pieces, T5's words from spiece.model; 5B-I2V makes its own size only, 1.5 takes others."""
    from diffusers import CogVideoXImageToVideoPipeline

    pipeline = CogVideoXImageToVideoPipeline.from_pretrained(
        made[IDS[version]], dtype=torch.float32, use_safetensors=True, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    words = pipeline.tokenizer(fake_models.SENTENCES[0]).input_ids
    assert words[-1] == 1 and 2 not in words and pipeline.tokenizer.decode(words[:-1]) == fake_models.SENTENCES[0]

    def make(height, width):
        image = np.zeros((height, width, 3), np.float32)
        options = {"num_inference_steps": 1, "guidance_scale": 1.0, "num_frames": fake_models.FRAMES}
        return pipeline(
            image=torch.from_numpy(image).permute(2, 0, 1)[None],
            prompt=TEXTS[0],
            height=height,
            width=width,
            output_type="np",
            **options,
        ).frames[0]

    assert make(fake_models.HEIGHT, fake_models.WIDTH).shape == (fake_models.FRAMES, 64, 96, 3)
    if version == "1.5":
        assert make(64, 64).shape == (fake_models.FRAMES, 64, 64, 3)
    else:
        with pytest.raises(ValueError, match="different resolution"):
            make(64, 64)


def test_pieces_count_in_digest_and_size(made, tmp_path):
    """Another byte in the second piece is another model; an index says what is loaded."""
    folder = shutil.copytree(made[IDS["1.0"]] / "transformer", tmp_path / "transformer")
    pieces = sorted(folder.glob("*.safetensors"))
    assert len(pieces) > 2 and memory.weight_files(folder) == pieces
    before, size = families.digest([folder]), memory.size_of(folder, "bfloat16")
    stored = sum(path.stat().st_size for path in pieces)
    assert 0.9 * stored < size < stored and memory.size_of(folder, "float32") == 2 * size
    content = bytearray(pieces[1].read_bytes())
    content[-1] ^= 1
    pieces[1].write_bytes(content)
    assert families.digest([folder]) != before
    pieces[2].unlink()
    with pytest.raises(UserError, match="is missing, though the index beside it names it"):
        memory.size_of(folder, "bfloat16")


def test_clip_weights_for_another_library_do_not_count(made):
    assert [path.name for path in memory.weight_files(made[hub.PAPER_CLIP])] == ["open_clip_model.safetensors"]


def test_too_little_memory_is_said_before_loading(made, cache, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 1_000_000)
    with pytest.raises(UserError) as caught:
        ModelSet(str(made[IDS["1.0"]]), {"encode_video"}, device="cpu")
    text = str(caught.value)
    assert text.startswith("the models need 2.9 MB of memory as float32 (vae 2.9 MB), of which 1.0 MB are free: ")
    assert "--model.dtype bfloat16" in text and "larger machine" in text
    with pytest.raises(UserError, match="--goal.offload model, or --bridge.device cpu"):
        memory.check_memory({"vae": made[IDS["1.0"]] / "vae"}, "bfloat16", "cuda", advice="--goal.offload model")
    monkeypatch.undo()
    assert 1e8 < memory.free_memory("cpu") < 1e14


def test_cut_off_weights_are_named(made, cache, tmp_path):
    """With the file to delete: a link in the hub's cache would give the same broken file again."""
    folder = shutil.copytree(made[IDS["1.0"]], tmp_path / "video")
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    blob = weights.rename(tmp_path / "blob")
    weights.symlink_to(blob)
    blob.write_bytes(blob.read_bytes()[:1_000_000])
    with pytest.raises(UserError, match=rf"vae.*is cut off \(1.0 MB of 2.9 MB\): delete {blob}, fetch it again"):
        ModelSet(str(folder), {"encode_video"}, device="cpu")
    for content in (b"", b"\xff" * 100, (8).to_bytes(8, "little") + b"no json!"):
        blob.write_bytes(content)
        with pytest.raises(UserError, match=f"is no safetensors file: delete {blob}"):
            ModelSet(str(folder), {"encode_video"}, device="cpu")


def test_large_frames_go_through_in_tiles(made, cache):
    """Near the untiled latents, in the same shape; frames of the model's own size are not touched."""
    models = ModelSet(str(made[IDS["1.0"]]), {"encode_video"}, device="cpu")
    vae = models.models["vae"].model
    for height, width in ((64, 96), (128, 160), (96, 224)):
        frames = video(height, width)
        tiled = models.call("encode_video", frames)
        vae.use_tiling = False
        whole = models.call("encode_video", frames)
        vae.use_tiling = True
        assert tiled.shape == whole.shape == (1, 16, 2, height // 8, width // 8)
        if (height, width) == (64, 96):
            np.testing.assert_array_equal(tiled, whole)
        else:
            likeness = np.corrcoef(tiled.ravel(), whole.ravel())[0, 1]  # each tile has its own norms
            assert 0.7 < likeness < 0.9999, likeness


def test_tiles_fit_an_autoencoder_of_any_size(made, cache, tmp_path):
    """Tiles that are no whole number of latent pixels apart would give latents of another shape."""
    folder = shutil.copytree(made[IDS["1.0"]], tmp_path / "video")
    config = json.loads((folder / "vae" / "config.json").read_text())
    (folder / "vae" / "config.json").write_text(json.dumps(config | {"sample_height": 88, "sample_width": 104}))
    models = ModelSet(str(folder), {"encode_video"}, device="cpu")
    assert models.call("encode_video", video(176, 208)).shape == (1, 16, 2, 22, 26)


def test_many_large_videos_go_through_one_after_the_other(made, cache):
    """As on a GPU, whose memory they would fill together."""
    models = ModelSet(str(made[IDS["1.0"]]), {"encode_video"}, device="cpu")
    vae = models.models["vae"].model
    vae.use_slicing = False  # as it starts on a GPU
    models.call("encode_video", video())
    assert not vae.use_slicing
    models.call("encode_video", video(272, 272)[:, :1])
    assert vae.use_slicing


def test_the_fakes_have_the_real_switches(made):
    """What the small folders are for; each of these changes a code path of the libraries."""
    old, new = (json.loads((made[IDS[v]] / "transformer" / "config.json").read_text()) for v in IDS)
    assert old["use_learned_positional_embeddings"] and old["use_rotary_positional_embeddings"]
    assert new["patch_size_t"] == 2 and new["ofs_embed_dim"] and new["patch_bias"] is False
    assert new["sample_height"] == 300 and not new["use_learned_positional_embeddings"]
    assert json.loads((made[IDS["1.5"]] / "vae" / "config.json").read_text())["invert_scale_latents"]
    schedule = json.loads((made[IDS["1.0"]] / "scheduler" / "scheduler_config.json").read_text())
    assert schedule["prediction_type"] == "v_prediction" and schedule["snr_shift_scale"] == 1.0
    assert not (made[IDS["1.0"]] / "tokenizer" / "tokenizer.json").exists()
    state = json.loads((made[hub.PAPER_DINO] / "config.json").read_text())
    assert state["use_gated_mlp"] and state["num_register_tokens"] == 4
