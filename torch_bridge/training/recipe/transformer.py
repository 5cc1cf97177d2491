"""The video diffusion model's recipe."""

from pathlib import Path

import numpy as np
import torch

from genreward_jax.demonstrations import captions
from genreward_jax.demonstrations.split import tasks_of
from genreward_jax.errors import UserError
from torch_bridge.embedded import MAX_TEXT
from torch_bridge.training import loop, rendered
from torch_bridge.training.clip import blank_words
from torch_bridge.training.recipe.common import FRAMES, SIZE, split, start

CLIP_STEPS = 128  # simulator steps that a goal video spans


def train(data: Path, work: Path, steps: int) -> None:
    """The video diffusion model with its text encoder, on the experts' episodes encoded by the trained autoencoder."""
    from torch_bridge.training import denoising

    pipeline = _pipeline(work)
    kept, held = split(rendered.load(data))
    latents = _latents(pipeline.vae, kept, work / "latents.safetensors")
    checks = _latents(pipeline.vae, [v for v in held if v.row["quality"] == "fast"], work / "latents-held.safetensors")
    texts = [episode for task in tasks_of("training") for episode in captions.episode_captions(task)]
    each = len(texts) // len(tasks_of("training"))
    tokens = denoising.tokens_of(pipeline.tokenizer, texts, MAX_TEXT)
    empty = torch.from_numpy(denoising.tokens_of(pipeline.tokenizer, [""], MAX_TEXT)[0])
    unknown = pipeline.tokenizer.unk_token_id
    objective = denoising.Denoising(
        pipeline.transformer, pipeline.scheduler, pipeline, pipeline.text_encoder, text_dropout=0.1, empty=empty
    )

    def batch(rng: np.random.Generator) -> dict:
        # Half of each batch begins at a reset, as a goal video does.
        first = rng.choice(np.flatnonzero(latents["start"] == 0), 16)
        rows = np.concatenate([first, rng.integers(len(latents["start"]), size=16)])
        words = torch.from_numpy(tokens[latents["task"][rows] * each + rng.integers(each, size=len(rows))])
        return {
            "latents": latents["latents"][rows],
            "image": latents["image"][rows],
            "tokens": blank_words(words, unknown, unknown + 1, 0.1),
        }

    def measure(_: int) -> dict[str, float]:
        return {"moved": _error_against_still(pipeline, checks, texts, each)}

    settings = loop.Settings(
        steps=steps, lr=1e-3, warmup=200, decay=0.4, weight_decay=1e-3, ema=0.999, validate_every=1000, seed=4
    )
    loop.fit(objective, batch, settings, work / "transformer", "transformer", "bf16", measure)
    for part in ("transformer", "text_encoder"):
        getattr(pipeline, part).to(torch.float16).save_pretrained(work / "embedded" / part, safe_serialization=True)


def _pipeline(work: Path):
    """Untrained transformer and text encoder around the trained autoencoder, all in float32."""
    from diffusers import AutoencoderKLCogVideoX, CogVideoXImageToVideoPipeline

    if not (work / "embedded" / "vae" / "config.json").is_file():
        raise UserError(
            f"The transformer needs the trained autoencoder, but {work}/embedded/vae is not there: train it first."
        )
    vae = AutoencoderKLCogVideoX.from_pretrained(work / "embedded" / "vae", torch_dtype=torch.float32)
    pipeline = CogVideoXImageToVideoPipeline.from_pretrained(start(work), vae=vae, torch_dtype=torch.float32)
    pipeline.vae.requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _latents(vae, videos: list[rendered.Video], path: Path) -> dict[str, np.ndarray]:
    """Scaled latents of clips of experts (and of noisy ones that succeed), from the reset and from later on.

    Returns:
        'latents' float16 (N, 5, C, 8, 8), 'image' (N, 1, C, 8, 8), 'task' and 'start' (simulator steps) int64 (N,).
    """
    from safetensors.numpy import load_file, save_file
    from tqdm import tqdm

    from torch_bridge.training.vae import to_pixels

    if path.is_file():
        return load_file(path)
    tasks = tasks_of("training")
    made: dict[str, list] = {"clips": [], "task": [], "start": []}
    for video in videos:
        expert, hop = video.row["behaviour"] == "expert", 8 // video.row["stride"]
        if not expert and not 0 < video.row["success_step"] <= CLIP_STEPS:
            continue
        for begin in (0, 24) if expert else (0,):
            first = begin // video.row["stride"]
            frames = video.frames[first : first + (FRAMES - 1) * hop + 1 : hop]
            if len(frames) == FRAMES:
                made["clips"].append(frames)
                made["task"].append(tasks.index(video.row["task"]))
                made["start"].append(begin)
    clips, latents = made.pop("clips"), {"latents": [], "image": []}
    for first in tqdm(range(0, len(clips), 8), desc="latents", mininterval=10):
        pixels = to_pixels(torch.from_numpy(np.stack(clips[first : first + 8])))
        for key, shown in (("latents", pixels), ("image", pixels[:, :, :1])):
            with torch.no_grad(), torch.autocast(pixels.device.type, torch.bfloat16):
                encoded = vae.encode(shown).latent_dist.mean.float() * vae.config.scaling_factor
            latents[key].append(encoded.transpose(1, 2).half().numpy())
    stacked = {key: np.array(value) for key, value in made.items()}
    stacked |= {key: np.ascontiguousarray(np.concatenate(value)) for key, value in latents.items()}
    save_file(stacked, path)
    return stacked


def _error_against_still(pipeline, checks: dict[str, np.ndarray], texts: list[str], each: int) -> float:
    """Squared error of generated latents to the true ones, over that of the first frame held still; 1 is no better."""
    rows = np.flatnonzero(checks["start"] == 0)
    device = next(pipeline.transformer.parameters()).device
    pipeline.to(device)  # the autoencoder took no part in the training, so it is where it was
    image = torch.from_numpy(checks["image"][rows]).to(device).float() / pipeline.vae.config.scaling_factor
    with torch.no_grad():
        first = pipeline.vae.decode(image.transpose(1, 2)).sample[:, :, 0]
        still = pipeline.vae.encode(first[:, :, None].expand(-1, -1, FRAMES, -1, -1)).latent_dist.mean
    still = still.transpose(1, 2) * pipeline.vae.config.scaling_factor
    made = pipeline(
        image=(first / 2 + 0.5).clamp(0, 1),
        prompt=[texts[task * each] for task in checks["task"][rows]],
        height=SIZE, width=SIZE, num_frames=FRAMES, num_inference_steps=10, guidance_scale=1.0,
        max_sequence_length=MAX_TEXT, output_type="latent", generator=torch.Generator().manual_seed(0),
    ).frames  # fmt: skip
    true = torch.from_numpy(checks["latents"][rows]).to(device).float()
    return float((made - true).square().mean() / (still - true).square().mean())
