"""Goal videos out of real pipelines: the small family, adapters, and the layouts of CogVideoX 5B-I2V and 1.5."""

import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image

from genreward_jax.errors import UserError
from tests.torch_bridge import fake_models
from torch_bridge.families import resolve
from torch_bridge.generate import generate, main
from torch_bridge.generation import making, model_digest
from torch_bridge.pipeline import load_pipeline

CPU = torch.device("cpu")
PROMPT = "a robot arm opens a door"


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The random family, whose videos are 32x32 here: its positions are computed, so it takes any size."""
    from torch_bridge import embedded

    folder = tmp_path_factory.mktemp("small") / "family"
    folder.mkdir()
    embedded.make(folder)
    manifest = json.loads((folder / "family.json").read_text())
    manifest["generation"] |= {"width": 32, "height": 32}
    (folder / "family.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def first_5b(tmp_path_factory):
    """A folder as CogVideoX-5b-I2V's, tiny."""
    return fake_models.cogvideox(tmp_path_factory.mktemp("real") / "5b")


@pytest.fixture(scope="module")
def newer(tmp_path_factory):
    """A folder as CogVideoX1.5-5B-I2V's, tiny."""
    return fake_models.cogvideox(tmp_path_factory.mktemp("real") / "newer", "1.5")


def video(folder, seed=0, prompt=PROMPT, grey=90, **changes):
    """A video of 9 frames in two steps, float64; changes are flags of the model's way."""
    family = resolve(str(folder), generates=True)
    made = making(family, **({"frames": 9, "steps": 2} | changes))
    image = np.full((made.height, made.width, 3), grey, np.uint8)
    image[: made.height // 2, : made.width // 2] = 200
    got = generate(family, made, prompt, image, seed, CPU)
    assert got.dtype == np.uint8 and got.shape == (made.frames, made.height, made.width, 3)
    return got.astype(float)


def lora(folder, base, size=0.5, name="adapted"):
    """A family that adapts ``base`` by a LoRA whose second matrices are random numbers of that size."""
    from diffusers import CogVideoXImageToVideoPipeline, CogVideoXTransformer3DModel
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    transformer = CogVideoXTransformer3DModel.from_pretrained(base / "transformer")
    transformer.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_k", "to_q", "to_v", "to_out.0"]))
    torch.manual_seed(0)
    for key, value in transformer.named_parameters():
        if "lora_B" in key:
            value.data.normal_(0, size) if size else value.data.zero_()
    state = get_peft_model_state_dict(transformer)
    CogVideoXImageToVideoPipeline.save_lora_weights(folder / "transformer_lora", transformer_lora_layers=state)
    manifest = {"name": name, "base": str(base), "adapter": "transformer_lora"}
    (folder / "family.json").write_text(json.dumps(manifest))
    return folder


def test_a_video_depends_on_seed_text_and_first_frame_and_on_nothing_else(small):
    first = video(small)
    np.testing.assert_array_equal(first, video(small))
    for change in ({"seed": 1}, {"prompt": "a robot arm turns a dial"}, {"grey": 30}, {"steps": 3}, {"guidance": 4.0}):
        assert np.abs(video(small, **change) - first).max() > 0, change


def test_the_family_says_how_its_videos_are_made(small):
    family = resolve(str(small), generates=True)
    own = making(family)
    wanted = family.generation
    assert (own.frames, own.steps, own.guidance) == (wanted["frames"], wanted["steps"], wanted["guidance"])
    assert (own.height, own.width, own.fps, own.max_text) == (32, 32, wanted["fps"], wanted["max_text"])
    assert own.dtype == "float32" and not own.large and not own.fixed
    asked = making(family, frames=25, steps=3, guidance=2.5, dtype="bfloat16")
    assert (asked.frames, asked.steps, asked.guidance, asked.dtype) == (25, 3, 2.5, "bfloat16")


def test_an_adapter_changes_the_video_and_an_empty_one_does_not(small, tmp_path):
    for name in ("real", "empty", "twice"):
        (tmp_path / name).mkdir()
    adapted = lora(tmp_path / "real", small)
    empty = lora(tmp_path / "empty", small, size=0)
    (tmp_path / "twice" / "transformer_lora").mkdir()
    shutil.copy(
        empty / "transformer_lora" / "pytorch_lora_weights.safetensors", tmp_path / "twice" / "transformer_lora"
    )
    manifest = {"base": "../real", "adapter": "transformer_lora"}  # beside it, and adapted itself
    (tmp_path / "twice" / "family.json").write_text(json.dumps(manifest))
    plain, changed = video(small), video(adapted)
    assert np.abs(plain - changed).mean() > 1
    np.testing.assert_allclose(video(empty), plain, atol=1)
    np.testing.assert_allclose(video(tmp_path / "twice"), changed, atol=1)
    families = [resolve(str(folder)) for folder in (small, adapted, empty, tmp_path / "twice")]
    assert len({model_digest(family) for family in families}) == 4
    assert families[1].name == "adapted" and families[3].name == "twice"
    assert families[1].frame_size == 64 and families[1].sources == families[0].sources


def test_a_replaced_part_is_used_for_video_and_reward(small, tmp_path):
    """Full fine-tuning leaves a transformer, and PART=vae an autoencoder, in place of the base's own."""
    from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel

    plain = video(small)
    for kind, cls in (("transformer", CogVideoXTransformer3DModel), ("vae", AutoencoderKLCogVideoX)):
        folder = tmp_path / kind
        model = cls.from_pretrained(small / kind)
        torch.manual_seed(0)
        for value in model.parameters():
            value.data += 0.02 * torch.randn_like(value)
        model.save_pretrained(folder / kind)
        (folder / "family.json").write_text(json.dumps({"base": str(small), "folders": {kind: kind}}))
        assert np.abs(video(folder) - plain).mean() > 0.5
        family = resolve(str(folder))
        assert family.sources["vae"] == (folder if kind == "vae" else small) / "vae"
        assert model_digest(family) != model_digest(resolve(str(small)))


def test_the_5b_layout_makes_its_own_size_and_length_only(first_5b):
    """As the real one: 49 frames of 720x480 there, bfloat16, its makers' sampler, guidance 6."""
    family = resolve(str(first_5b), generates=True)
    made = making(family)
    assert (made.height, made.width, made.frames) == (fake_models.HEIGHT, fake_models.WIDTH, fake_models.FRAMES)
    assert made.large and made.fixed and made.dtype == "bfloat16"
    assert (made.steps, made.guidance, made.fps, made.max_text) == (50, 6.0, 8.0, 226)
    assert family.frame_size == fake_models.HEIGHT
    got = video(first_5b, frames=0)
    assert got.shape == (fake_models.FRAMES, fake_models.HEIGHT, fake_models.WIDTH, 3) and np.ptp(got) > 10
    with pytest.raises(UserError, match=f"learned positions and makes videos of {fake_models.FRAMES} frames only"):
        making(family, frames=fake_models.FRAMES + 8)


def test_large_models_are_sampled_as_their_makers_do(first_5b, small, monkeypatch):
    from diffusers import CogVideoXDPMScheduler, CogVideoXImageToVideoPipeline

    for folder, large in ((first_5b, True), (small, False)):
        family = resolve(str(folder), generates=True)
        made = replace(making(family), guidance=6.0)
        pipeline = load_pipeline(family, made, CPU)
        assert isinstance(pipeline.scheduler, CogVideoXDPMScheduler) == large
        assert pipeline.scheduler.config.timestep_spacing == "trailing"
        assert pipeline.transformer.dtype == pipeline.vae.dtype == (torch.bfloat16 if large else torch.float32)
        assert not pipeline.vae.use_tiling
        seen = {}

        def call(self, seen=seen, **options):
            seen |= options
            raise UserError("seen")

        monkeypatch.setattr(CogVideoXImageToVideoPipeline, "__call__", call)
        with pytest.raises(UserError, match="seen"):
            generate(family, made, PROMPT, np.zeros((8, 8, 3), np.uint8), 3, CPU)
        assert seen["use_dynamic_cfg"] == large and seen["negative_prompt"] == ""
        assert seen["generator"].device.type == "cpu" and seen["generator"].initial_seed() == 3
        monkeypatch.undo()
    big = load_pipeline(family, replace(made, width=720, height=480), CPU)
    assert big.vae.use_tiling and big.vae.use_slicing


def test_the_newer_layout_takes_any_size(newer, tmp_path):
    """Its configuration names 2,400 pixels, the largest of its positions; its makers say 768."""
    made = making(resolve(str(newer), generates=True))
    assert (made.height, made.width, made.frames, made.fps, made.fixed) == (768, 768, 81, 16.0, False)
    assert resolve(str(newer)).frame_size == 480
    generation = {"width": 48, "height": 32}
    (tmp_path / "family.json").write_text(json.dumps({"base": str(newer), "generation": generation}))
    made = making(resolve(str(tmp_path)))
    assert made.large and made.dtype == "bfloat16" and made.frames == 81
    got = video(tmp_path, frames=9)  # three latent frames: one more is added, so that its patches fit, and cut off
    assert got.shape == (9, 32, 48, 3)


def broken(folder, small, what):
    """A copy of the small family with one thing wrong."""
    shutil.copytree(small, folder)
    transformer = folder / "transformer"
    if what == "no transformer":
        shutil.rmtree(transformer)
    elif what == "no text encoder":
        shutil.rmtree(folder / "text_encoder")
    elif what == "no weights":
        (transformer / "diffusion_pytorch_model.safetensors").rename(transformer / "diffusion_pytorch_model.bin")
    elif what == "no index":
        (folder / "model_index.json").unlink()
    elif what == "text alone":
        config = json.loads((transformer / "config.json").read_text())
        (transformer / "config.json").write_text(json.dumps({**config, "in_channels": 16}))
    elif what == "no adapter":
        (folder / "family.json").write_text(json.dumps({"base": str(small), "adapter": "transformer_lora"}))
    elif what == "no folder":
        (folder / "family.json").write_text(json.dumps({"base": str(small), "folders": {"transformer": "other"}}))
    elif what == "a circle":
        (folder / "family.json").write_text(json.dumps({"base": str(folder)}))
    elif what == "no base":
        (folder / "family.json").write_text(json.dumps({"base": "nowhere"}))
    return str(folder)


BROKEN = {
    "no transformer": "makes no videos, its transformer is missing .*MODEL=.*GOAL=file",
    "no text encoder": "its text_encoder is missing",
    "no weights": "its transformer holds no .safetensors",
    "no index": "has no model_index.json",
    "text alone": "videos of a text alone .*16 channels.*32.*image-to-video model",
    "no adapter": "names the adapter 'transformer_lora', but .* holds no .safetensors",
    "no folder": "names 'other' as its transformer, which is no folder beside it",
    "a circle": "a base that leads back to itself",
    "no base": "'nowhere' is no folder here and no hub id",
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_makes_no_videos_is_said(what, small, tmp_path):
    with pytest.raises(UserError, match=BROKEN[what]):
        making(resolve(broken(tmp_path / "family", small, what), generates=True))


@pytest.mark.parametrize(("frames", "nearest"), [(1, 9), (5, 9), (10, 9), (16, 17), (48, 49), (54, 57), (-3, 9)])
def test_frames_that_no_cogvideox_makes_are_said_with_the_nearest(small, frames, nearest):
    with pytest.raises(UserError, match=f"is {frames}: .*8k \\+ 1 frames, the nearest is {nearest}$"):
        making(resolve(str(small)), frames=frames)


def test_offloading_needs_a_gpu(small):
    family = resolve(str(small))
    with pytest.raises(UserError, match="runs on the CPU here"):
        load_pipeline(family, making(family), CPU, "model")
    with pytest.raises(UserError, match="'disk': none, model, sequential"):
        load_pipeline(family, making(family), CPU, "disk")


def test_too_little_memory_and_weights_that_cannot_be_loaded_are_said(small, tmp_path, monkeypatch):
    copy = tmp_path / "family"
    shutil.copytree(small, copy)
    config = json.loads((copy / "transformer" / "config.json").read_text())
    (copy / "transformer" / "config.json").write_text(json.dumps({**config, "num_layers": 7}))
    family = resolve(str(copy))
    with pytest.raises(UserError, match="could not be loaded as an image-to-video pipeline: .*transformer lack"):
        load_pipeline(family, making(family), CPU)
    (copy / "transformer" / "config.json").write_text(json.dumps({**config, "time_embed_dim": 32}))
    with pytest.raises(UserError, match="could not be loaded as an image-to-video pipeline"):
        load_pipeline(family, making(family), CPU)
    monkeypatch.setattr("torch_bridge.memory.free_memory", lambda device: 1000)
    with pytest.raises(UserError, match="the models need .* of memory as float32 .*transformer"):
        load_pipeline(resolve(str(small)), making(resolve(str(small))), CPU)


def test_a_request_is_answered_with_frames_or_one_sentence(small, tmp_path):
    """What the trainer's process reads: frames.npy and exit code 0, or error.txt and exit code 2."""
    from genreward_jax.generating import fitted

    family = resolve(str(small))
    image, _ = fitted(np.full((40, 40, 3), 90, np.uint8), 32, 32)
    Image.fromarray(image).save(tmp_path / "first_frame.png")
    request = {"prompt": PROMPT, "seed": 3, "image": "first_frame.png", "family": str(small), "revision": ""}
    request |= {"device": "cpu", "offload": "none", **asdict(making(family, frames=9, steps=2))}
    (tmp_path / "request.json").write_text(json.dumps(request))
    assert main([str(tmp_path)]) == 0
    got = np.load(tmp_path / "frames.npy")
    np.testing.assert_array_equal(got, generate(family, making(family, 9, 2), PROMPT, image, 3, CPU))
    (tmp_path / "request.json").write_text(json.dumps({**request, "offload": "model"}))
    assert main([str(tmp_path)]) == 2
    assert "runs on the CPU here" in (tmp_path / "error.txt").read_text()
    (tmp_path / "request.json").write_text("{}")
    assert main([str(tmp_path)]) == 1
