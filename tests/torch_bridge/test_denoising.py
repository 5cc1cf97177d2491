"""The objective of fine-tuning: v against plain NumPy, and the transformer's input against the pipeline's own."""

import json
import os

import numpy as np
import pytest
import torch

from torch_bridge.repairs import repair_torchvision

repair_torchvision()
torch.set_num_threads(1)

from genreward_jax.datasets.clips import Episode  # noqa: E402
from genreward_jax.rewards.base import Denoising as Asked  # noqa: E402
from tests.torch_bridge import fake_models, tiny_family, tiny_videos  # noqa: E402
from torch_bridge.denoiser import VideoDenoiser  # noqa: E402
from torch_bridge.families import resolve  # noqa: E402
from torch_bridge.training import finetune, precompute  # noqa: E402
from torch_bridge.training.denoising import Denoising  # noqa: E402
from torch_bridge.training.vae import to_pixels  # noqa: E402


class Said(torch.nn.Module):
    """In a transformer's place: notes what it is given and says what it is told."""

    def __init__(self, config, said=None):
        super().__init__()
        self.config, self.said, self.given = config, said, []

    def forward(self, hidden_states, **rest):
        self.given.append({"hidden_states": hidden_states, **rest})
        said = torch.zeros_like(hidden_states[:, :, : hidden_states.shape[2] // 2]) if self.said is None else self.said
        return type("Output", (), {"sample": said})()


class Config:
    use_rotary_positional_embeddings = False
    ofs_embed_dim = None
    patch_size_t = None


def scheduler():
    from diffusers import CogVideoXDDIMScheduler

    return CogVideoXDDIMScheduler(**fake_models.SCHEDULE)


def signal_levels() -> np.ndarray:
    """The schedule of CogVideoX from its definition: scaled linear betas, then no signal left at the last step."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    root = np.sqrt(np.cumprod(1 - betas))
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return root**2


class TestObjective:
    def test_squared_error_of_v(self):
        rng = np.random.default_rng(0)
        latents, noise, said = (rng.standard_normal((3, 2, 4, 4, 4)) for _ in range(3))
        step = np.array([0, 500, 999])
        model = Said(Config(), torch.tensor(said, dtype=torch.float32))
        objective = Denoising(model, scheduler(), None)
        batch = {
            "latents": torch.tensor(latents),
            "image": torch.tensor(rng.standard_normal((3, 1, 4, 4, 4))),
            "text": torch.zeros(3, 1, 1),
        }
        ours = objective.error_at(batch, torch.tensor(step), torch.tensor(noise, dtype=torch.float32))
        alpha = signal_levels()[step].reshape(3, 1, 1, 1, 1)
        v = np.sqrt(alpha) * noise - np.sqrt(1 - alpha) * latents
        assert float(ours) == pytest.approx(np.mean((said - v) ** 2), rel=1e-5)
        noised = np.sqrt(alpha) * latents + np.sqrt(1 - alpha) * noise
        given = model.given[0]["hidden_states"].numpy()
        assert np.allclose(given[:, :, :4], noised, atol=1e-5)
        assert np.allclose(given[:, :1, 4:], batch["image"], atol=1e-6) and not given[:, 1:, 4:].any()

    def test_the_mean_over_chance_is_the_mean_over_steps(self):
        """A transformer that says nothing: its error is the mean of v squared, for each step 1 on unit latents."""
        torch.manual_seed(0)
        model = Said(Config())
        objective = Denoising(model, scheduler(), None, image_dropout=0.5)
        latents = torch.randn(400, 2, 2, 8, 8)
        latents /= latents.std()
        batch = {"latents": latents, "image": torch.ones(400, 1, 2, 8, 8), "text": torch.zeros(400, 1, 1)}
        assert float(objective(batch)) == pytest.approx(1, rel=0.02)
        step = model.given[0]["timestep"]
        assert 450 < step.float().mean() < 550 and step.min() >= 0 and step.max() <= 999 and step.max() > 950
        kept = model.given[0]["hidden_states"][:, 0, 2].mean((1, 2))
        assert 0.4 < float(kept.mean()) < 0.6 and set(kept.tolist()) == {0.0, 1.0}

    def test_withheld_captions(self):
        model = Said(Config())
        objective = Denoising(model, scheduler(), None, text_dropout=0.5, empty=torch.full((3, 2), 7.0))
        batch = {"latents": torch.zeros(100, 1, 2, 2, 2), "image": torch.zeros(100, 1, 2, 2, 2)}
        objective({**batch, "text": torch.zeros(100, 3, 2)})
        text = model.given[0]["encoder_hidden_states"]
        assert set(text[:, 0, 0].tolist()) == {0.0, 7.0} and (text == text[:, :1, :1]).all()


class TestRealLayouts:
    """Tiny models with the switches of CogVideoX-5b-I2V (learned positions) and of CogVideoX1.5-5B-I2V."""

    @pytest.fixture(scope="class", params=["1.0", "1.5"])
    @classmethod
    def folder(cls, request, tmp_path_factory):
        return fake_models.cogvideox(tmp_path_factory.mktemp("real") / "model", request.param)

    def test_the_transformer_is_given_what_the_pipeline_gives_it(self, folder, tmp_path):
        """Image latents, number of frames, positions and offset; the video's own latents are chance in the pipeline."""
        from diffusers import CogVideoXImageToVideoPipeline
        from PIL import Image

        pipeline = CogVideoXImageToVideoPipeline.from_pretrained(folder, dtype=torch.float32)
        pipeline.set_progress_bar_config(disable=True)
        pixels = np.random.default_rng(0).integers(0, 255, (9, 64, 96, 3), np.uint8)
        real, listener = pipeline.transformer, Said(pipeline.transformer.config)
        listener.dtype, listener.cache_context = torch.float32, real.cache_context

        def forward(hidden_states, **rest):
            listener.given.append({"hidden_states": hidden_states, **rest})
            return (torch.zeros_like(hidden_states[:, :, :16]),)

        text = torch.zeros(1, 226, 32)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(real, "forward", forward)
            pipeline(
                Image.fromarray(pixels[0]), prompt_embeds=text, height=64, width=96, num_frames=9, guidance_scale=1.0,
                num_inference_steps=1, generator=torch.Generator().manual_seed(3), output_type="latent",
            )  # fmt: skip
        moments = precompute._moments(pipeline.vae, pixels, 0.0, torch.Generator())
        # The pipeline draws its first frame's latent from the distribution; we take the same numbers of chance.
        found = pipeline.vae.encode(to_pixels(torch.from_numpy(pixels[None, :1]))).latent_dist
        chance = (found.sample(torch.Generator().manual_seed(3)) - found.mean)[:, :, 0] / found.std[:, :, 0]
        batch = {
            "latents": moments["mean"][None],
            "image": moments["image_mean"][None].float() + moments["image_std"][None].float() * chance[None],
            "text": text,
        }
        objective = Denoising(listener, pipeline.scheduler, pipeline)
        frames = objective.padded_frames(3)
        with torch.no_grad():
            objective.error_at(batch, torch.tensor([999]), torch.randn(1, frames, 16, 8, 12))
        theirs, ours = listener.given
        assert ours["hidden_states"].shape == theirs["hidden_states"].shape
        assert torch.allclose(ours["hidden_states"][:, :, 16:], theirs["hidden_states"][:, :, 16:], atol=5e-3)
        assert ours["hidden_states"][:, 0, 16:].abs().max() > 0.01
        for mine, other in zip(ours["image_rotary_emb"], theirs["image_rotary_emb"], strict=True):
            assert torch.equal(mine, other)
        assert (ours["ofs"] is None) == (theirs["ofs"] is None)
        assert ours["ofs"] is None or torch.equal(ours["ofs"], theirs["ofs"])

    def test_a_clip_is_judged_by_its_own_latent_frames(self, folder):
        """Nine frames are three latent ones; what fills them up to an even number for 1.5 is no frame of the clip."""
        denoiser = VideoDenoiser(resolve(str(folder)), torch.device("cpu"))
        denoiser.pipeline.vae.disable_tiling()  # whose tiles are no multiple of 8 pixels in a model this small
        clip = np.random.default_rng(0).integers(0, 255, (9, 64, 96, 3), np.uint8)
        asked = Asked(clip, "close the drawer", (0.3, 0.7), seed=1, compare=True)
        (found,) = denoiser.denoise_error([asked])
        assert found.shape == (2, 3, 3) and np.isfinite(found).all()
        (likely,) = denoiser.next_frame_log_likelihood([asked])
        assert likely.shape == (2,) and np.isfinite(likely).all()

    def test_square_frames_keep_their_proportions_in_an_oblong_model(self, folder, monkeypatch):
        """Frames of a middle square, borders repeated beside it, are what the square alone is for the model."""
        denoiser = VideoDenoiser(resolve(str(folder)), torch.device("cpu"))
        denoiser.pipeline.vae.disable_tiling()
        square = np.random.default_rng(0).integers(0, 255, (9, 64, 64, 3), np.uint8)
        padded = np.pad(square, ((0, 0), (0, 0), (16, 16), (0, 0)), mode="edge")
        ask = lambda clip: denoiser.denoise_error([Asked(clip, "close the drawer", (0.3,), seed=1, compare=False)])[0]
        if not denoiser.made.fixed:
            assert denoiser._place((64, 64)) == ((64, 64), (0, 0, 0, 0))  # takes the frames' own size
            return
        assert denoiser._place((64, 64)) == ((64, 64), (16, 16, 0, 0))
        own = denoiser._own(torch.Size((1, 9, 3, 64, 64)), torch.Size((1, 3, 16, 8, 12)))
        assert own[3:] == (slice(0, 8), slice(2, 10))
        middle = ask(square)
        assert not np.allclose(ask(padded)[..., 0], middle[..., 0])  # judges the borders as well
        monkeypatch.setattr(denoiser, "_own", lambda frames, latents: own)
        np.testing.assert_allclose(ask(padded)[..., 0], middle[..., 0], rtol=1e-3)

    def test_it_can_be_fine_tuned(self, folder, tmp_path, capsys):
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)
        newer = json.loads((folder / "transformer/config.json").read_text())["patch_size_t"] == 2
        data = tiny_videos.toy_set(tmp_path / "data", 3, size=(64, 96))
        flags = ["--data", data, "--model", folder, "--out", tmp_path / "out", "--steps", 2, "--batch", 2]
        flags += ["--videos", 0, "--validate-every", 1, "--rank", 4]
        flags += ["--frames", 9, "--height", 64, "--width", 96] if newer else []
        assert finetune.main([str(flag) for flag in flags]) == 0
        weights = list((tmp_path / "out/transformer_lora").glob("*.safetensors"))
        assert len(weights) == 1
        if not newer:
            AcceleratorState._reset_state(reset_partial_state=True)
            flags[5] = tmp_path / "other"
            assert finetune.main([str(flag) for flag in [*flags, "--frames", 17]]) == 2
            assert "learned positions and takes 9 frames of 96x64 only" in capsys.readouterr().err


class TestCache:
    def test_what_is_kept_of_a_video(self, tmp_path):
        """Scaled as the pipeline scales; the first frame clean and under noise of the asked-for spread."""
        from diffusers import AutoencoderKLCogVideoX

        vae = AutoencoderKLCogVideoX.from_pretrained(tiny_family.make(tmp_path / "tiny") / "vae")
        path = tiny_videos.write(tmp_path / "a.mp4", tiny_videos.frames(9, size=(32, 32)))
        episode, cache = Episode("a", path, "move"), precompute.Cache(tmp_path / "cache")
        shape = precompute.Shape(9, 32, 32, 0, "crop")
        precompute.encode_videos(vae, [episode], shape, cache, 0.05, 0, lambda items: items)
        found = cache.load_video(episode)
        true = vae.encode(to_pixels(torch.from_numpy(shape.read(episode))[None])).latent_dist
        assert torch.allclose(found["mean"].float(), 2 * true.mean[0].transpose(0, 1), atol=2e-3)
        assert torch.allclose(found["std"].float(), 2 * true.std[0].transpose(0, 1), atol=2e-3)
        assert found["image_mean"].shape == (5, 4, 4, 4)
        apart = [(found["image_mean"][i] - found["image_mean"][0]).float().abs().max() for i in range(1, 5)]
        assert all(0 < value < 2 for value in apart) and len({float(a) for a in apart}) == 4
        os.utime(path, (1, 1))  # the same video with another time: encoded again, under the same noise
        precompute.encode_videos(vae, [episode], shape, cache, 0.05, 0, lambda items: items)
        assert len(list((tmp_path / "cache").iterdir())) == 2
        assert torch.equal(cache.load_video(episode)["image_mean"], found["image_mean"])
        plain = precompute._moments(vae, shape.read(episode), 0.0, torch.Generator())
        assert plain["image_mean"].shape == (1, 4, 4, 4)

    def test_a_batch_is_drawn_anew_each_time(self, tmp_path):
        cache, episode = precompute.Cache(tmp_path), Episode("a", tiny_videos.write(
            tmp_path / "a.mp4", tiny_videos.frames(3)), "x")  # fmt: skip
        tensors = {"mean": torch.zeros(2, 1, 2, 2), "std": torch.ones(2, 1, 2, 2)}
        tensors |= {"image_mean": torch.arange(3.0).view(3, 1, 1, 1).repeat(1, 1, 2, 2)}
        tensors |= {"image_std": torch.zeros(3, 1, 2, 2)}
        precompute.save_tensors(cache.video(episode), {key: value.half() for key, value in tensors.items()})
        precompute.save_tensors(cache.text("x"), {"text": torch.ones(4, 8)})
        torch.manual_seed(0)
        batch = precompute.sample_batch(cache, [episode] * 200, np.random.default_rng(0))
        assert batch["latents"].shape == (200, 2, 1, 2, 2) and float(batch["latents"].std()) == pytest.approx(
            1, rel=0.1
        )
        assert batch["image"].shape == (200, 1, 1, 2, 2) and set(batch["image"].flatten().tolist()) == {1.0, 2.0}
        fixed = precompute.fixed_sample(cache, episode)
        assert not fixed["latents"].any() and not fixed["image"].any()
