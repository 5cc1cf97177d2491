"""What a diffusion model finds likely: against the libraries' own pieces, and on a model whose answer is known."""

from types import SimpleNamespace

import numpy as np
import pytest

from genreward_jax.errors import UserError
from genreward_jax.rewards.base import Denoising
from torch_bridge.batching import Batcher
from torch_bridge.models import ModelSet

BOTH = ("denoise_error", "next_frame_log_likelihood")
TEXT = "a robot arm closes the drawer"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def models(family):
    return ModelSet(str(family), BOTH, device="cpu")


@pytest.fixture
def clip(rng):
    return rng.integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("history", [False, True])
def test_errors_are_those_of_the_librarys_own_pieces(models, clip, history):
    """The family's transformer called directly; noise and v by diffusers' scheduler, errors turned from v to noise."""
    import torch

    pipeline = models.models["diffusion"].pipeline
    asked = Denoising(clip, TEXT, (0.25, 0.6), seed=5, history=history, compare=True)
    (found,) = models.call("denoise_error", [asked])
    assert found.shape == (2, 2, 3) and found.dtype == np.float32
    with torch.no_grad():
        pixels = torch.from_numpy(clip).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        factor = pipeline.vae.config.scaling_factor
        latents = pipeline.vae.encode(pixels).latent_dist.mean.transpose(1, 2) * factor
        image = torch.zeros_like(latents)
        if history:
            image[:, :1] = pipeline.vae.encode(pixels[:, :, :1]).latent_dist.mean.transpose(1, 2) * factor
        assert not pipeline.transformer.config.use_rotary_positional_embeddings
        for number, step in enumerate((250, 600)):
            noise = torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(5 + number))[None]
            at = torch.tensor([step])
            noised = pipeline.scheduler.add_noise(latents, noise, at)
            v = pipeline.scheduler.get_velocity(latents, noise, at)
            given = []
            for text in (TEXT, ""):
                states = pipeline.encode_prompt(text, do_classifier_free_guidance=False, max_sequence_length=24)[0]
                given.append(
                    pipeline.transformer(
                        hidden_states=torch.cat([noised, image], 2), encoder_hidden_states=states, timestep=at
                    ).sample
                )  # fmt: skip
            kept = pipeline.scheduler.alphas_cumprod[step]  # noise = sqrt(kept) v + sqrt(1 - kept) noised
            square = lambda x, kept=kept: (kept * x.square()).mean((0, 2, 3, 4)).numpy()
            want = [square(given[0] - v), square(given[1] - v), square(given[0] - given[1])]
            np.testing.assert_allclose(found[number], np.stack(want, -1), rtol=2e-4)


def test_requests_together_are_answered_as_each_alone(models, clip, rng):
    """More than fit into one call of the model, with several texts and seeds, through the batcher."""
    asked = [
        Denoising(rng.integers(0, 256, clip.shape, dtype=np.uint8), text, (0.1, 0.5, 0.9), seed, compare=True)
        for seed, text in enumerate([TEXT, "a robot arm", TEXT, "open the door", "", "a drawer", TEXT])
    ]
    batcher = Batcher(models.call)
    together = [future.result() for future in [batcher.submit("denoise_error", one) for one in asked]]
    assert batcher.stacked > 0
    for one, found in zip(asked, together, strict=True):
        np.testing.assert_allclose(found, models.call("denoise_error", [one])[0], rtol=1e-4)


def test_the_same_seed_is_the_same_noise_and_without_comparison_there_is_none(models, clip):
    plain = Denoising(clip, TEXT, (0.5, 0.5), seed=1)
    first, second = (models.call("denoise_error", [plain])[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.isfinite(first[..., 0]).all() and np.isnan(first[..., 1:]).all()
    assert (first[0] != first[1])[:, 0].all(), "two draws at one level"
    other = models.call("denoise_error", [Denoising(clip, TEXT, (0.5, 0.5), seed=9)])[0]
    assert (other[..., 0] != first[..., 0]).all()


def test_the_model_knows_a_still_first_frame_better_when_it_is_shown(models):
    """On what it was trained on: a scene, of which the first frame is given or withheld."""
    still = np.zeros((5, 64, 64, 3), np.uint8)
    still[:] = np.linspace(40, 200, 64)[None, :, None, None]
    errors = [
        models.call("denoise_error", [Denoising(still, TEXT, (0.9,) * 4, history=history)])[0][..., 0].mean()
        for history in (False, True)
    ]
    assert errors[1] < errors[0]


def test_what_cannot_be_asked_is_refused(models, clip):
    with pytest.raises(UserError, match=r"clips of 4k \+ 1 frames, not 4"):
        models.call("denoise_error", [Denoising(clip[:4], TEXT, (0.5,))])
    batcher = Batcher(models.call)
    with pytest.raises(ValueError, match="levels of noise from 0 to below 1"):
        batcher.submit("denoise_error", Denoising(clip, TEXT, (1.0,)))
    with pytest.raises(ValueError, match="takes a Denoising"):
        batcher.submit("denoise_error", clip)


def test_the_bound_is_the_log_likelihood_where_that_is_known():
    """Latents from a unit Gaussian, and the predictor that is right for it: the bound is -x^2 / 2 and a constant.

    With eq. 14 of Variational Diffusion Models; the noise levels of CogVideoX's schedule, each of its steps once.
    """
    import torch

    from torch_bridge.denoiser import _Denoiser

    kept = torch.linspace(0.9995, 0.01, 1000)  # alphas_cumprod

    class Gaussian(_Denoiser):
        def __init__(self):
            config = SimpleNamespace(prediction_type="epsilon")
            super().__init__(SimpleNamespace(scheduler=SimpleNamespace(alphas_cumprod=kept, config=config)), "cpu")

        def _latents(self, frames, history):
            return frames * 3, torch.zeros(len(frames))

        def _encode(self, text):
            return torch.zeros(1, 1)

        def _predict(self, noised, of_clip, text, step):
            return self.noise[step].view(-1, 1, 1, 1, 1) * noised  # the mean of x given z is signal z

    levels = tuple((i + 0.5) / 1000 for i in range(1000))
    bounds, squares = [], []
    for grey in (127, 180, 250):
        frames = np.full((2, 16, 16, 3), grey, np.uint8)
        (found,) = Gaussian().next_frame_log_likelihood([Denoising(frames, "", levels)])
        bounds.append(float(found[0]))
        squares.append((3 * (grey / 127.5 - 1)) ** 2)
    np.testing.assert_allclose(np.diff(bounds), -np.diff(squares) / 2, rtol=0.03)


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory):
    """A small Stable Diffusion with random weights, saved by the library as its own folders are."""
    import torch

    from torch_bridge.repairs import repair_torchvision

    repair_torchvision()
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=4, cross_attention_dim=16,
        attention_head_dim=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=8, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=12, **ends,
        )
    )  # fmt: skip
    words = {"<bos>": 0, "<eos>": 1, "<unk>": 2, "robot": 3, "drawer": 4}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<eos>", unk_token="<unk>",
        model_max_length=12,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae,
        text,
        fast,
        unet,
        DDIMScheduler(prediction_type="v_prediction", clip_sample=False, steps_offset=1),
        None,
        None,
        requires_safety_checker=False,
    )
    folder = tmp_path_factory.mktemp("sd")
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def test_stable_diffusion_denoises_single_frames(family, stable_diffusion, clip):
    """Its UNet called directly; v turned into noise by hand."""
    import torch

    models = ModelSet(str(family), ("denoise_error",), device="cpu", models={"diffusion": str(stable_diffusion)})
    assert models.describe()["models"]["diffusion"]["class"] == "UNet2DConditionModel"
    (found,) = models.call("denoise_error", [Denoising(clip[:1], "robot drawer", (0.5,), seed=2, compare=True)])
    pipeline = models.models["diffusion"].pipeline
    with torch.no_grad():
        side = 8 * pipeline.vae_scale_factor
        pixels = torch.from_numpy(clip[:1]).permute(0, 3, 1, 2).float() / 127.5 - 1
        pixels = torch.nn.functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        latents = pipeline.vae.encode(pixels).latent_dist.mean * pipeline.vae.config.scaling_factor
        noise, at = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2)), torch.tensor([500])
        noised, kept = pipeline.scheduler.add_noise(latents, noise, at), pipeline.scheduler.alphas_cumprod[500]
        states = pipeline.encode_prompt("robot drawer", "cpu", 1, False)[0]
        v = pipeline.unet(noised, at, encoder_hidden_states=states).sample
        want = (kept.sqrt() * v + (1 - kept).sqrt() * noised - noise).square().mean()
    np.testing.assert_allclose(found[0, 0, 0], want, rtol=1e-4)
    with pytest.raises(UserError, match="one frame at a time, not 5"):
        models.call("denoise_error", [Denoising(clip, "", (0.5,))])
