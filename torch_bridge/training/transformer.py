"""Fine-tuning of the video diffusion transformer, by an adapter or as a whole, on latents that were computed once."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genreward_jax.datasets.clips import Episode
from genreward_jax.errors import UserError
from torch_bridge.families import digest
from torch_bridge.training import adapter, precompute, previews
from torch_bridge.training.denoising import Denoising
from torch_bridge.training.job import Job, spatial_factor
from torch_bridge.training.video_folder import bar_for, complain

LEVELS = (125, 375, 625, 875)  # noise steps of the validation, of 1,000
_TILED = 256 * 256  # pixels above which the autoencoder works in tiles


def train(job: Job, result: Path) -> dict[str, Any]:
    """Trains and writes the new weights into ``result``; gives what belongs into its ``family.json``."""
    cache = precompute.Cache(job.work / "cache" / _cache_key(job))
    usable = _encode(job, cache)
    job.divide(usable)
    objective = _objective(job, cache)

    def batch(rng: np.random.Generator) -> dict[str, torch.Tensor]:
        micro = job.options.micro
        rows = rng.choice(len(job.kept), micro, replace=micro > len(job.kept))
        return precompute.sample_batch(cache, [job.kept[i] for i in rows], rng)

    def measure(step: int) -> dict[str, float]:
        with torch.random.fork_rng(), torch.no_grad(), job.autocast():
            if job.previews_due(step):
                _preview(job, objective, cache, step)
            return {"loss": validation_loss(objective, cache, job.held, job.state.device)}

    job.fit(objective, batch, measure)
    return save(job, objective.transformer, result) if job.state.is_main_process else {}


def _cache_key(job: Job) -> str:
    """Whatever latents and embeddings depend on besides the video and the caption."""
    models = digest([job.family.part(part) for part in ("vae", "text_encoder", "tokenizer")])
    given = (models, job.shape, job.made.max_text, job.options.image_noise, job.options.seed, job.frozen_dtype)
    return hashlib.sha256(repr(given).encode()).hexdigest()[:16]


def _encode(job: Job, cache: precompute.Cache) -> list[Episode]:
    """Fills the cache, each process its share, and lets the models behind it go; gives what could be encoded."""
    state, options = job.state, job.options
    found = job.kept
    texts = sorted({episode.text for episode in found} | {""})
    if not all(cache.video(e).is_file() or cache.bad(e) for e in found):
        vae = load_vae(job)
        mine = precompute.share(found, state.process_index, state.num_processes)
        bar = bar_for("latents", state.is_main_process)
        precompute.encode_videos(vae, mine, job.shape, cache, options.image_noise, options.seed, bar)
        del vae
        precompute.release()
    if not all(cache.text(text).is_file() for text in texts):
        mine = precompute.share(texts, state.process_index, state.num_processes)
        pipeline = _text_pipeline(job)
        for note in caption_notes(pipeline.tokenizer, texts, job.made.max_text):
            job.say(note)
        precompute.encode_texts(pipeline, mine, job.made.max_text, cache, state.device)
        del pipeline
        precompute.release()
    state.wait_for_everyone()
    bad = [f"{episode.name}: {cache.bad(episode)}" for episode in found if cache.bad(episode)]
    usable = [episode for episode in found if not cache.bad(episode)]
    said = complain(options.data, len(usable), bad, options.bad == "skip")
    if said:
        job.say(said)
    return usable


def caption_notes(tokenizer: Any, texts: list[str], length: int) -> list[str]:
    """What the model will not see of the captions: their ends, and words that it has no token for."""
    notes, unknown = [], tokenizer.unk_token_id
    cut = [text for text in texts if len(tokenizer(text).input_ids) > length]
    if cut:
        notes.append(f"{len(cut)} of {len(texts)} captions are longer than the model's {length} tokens and are cut.")
    words = sorted({word for text in texts for word in text.split()})
    lost = [word for word in words if unknown is not None and unknown in tokenizer(word).input_ids]
    if lost:
        more = f" and {len(lost) - 10} more" if len(lost) > 10 else ""
        notes.append(
            f"The model has no token for these words, which all look alike to it: {', '.join(lost[:10])}{more}."
        )
    return notes


def load_vae(job: Job) -> Any:
    """The family's autoencoder, frozen, on the run's device."""
    from diffusers import AutoencoderKLCogVideoX

    vae = _load(AutoencoderKLCogVideoX, job, "vae", job.frozen_dtype).to(job.state.device).eval()
    vae.requires_grad_(False)
    if job.shape.height * job.shape.width > _TILED:
        vae.enable_slicing()
        vae.enable_tiling()
    return vae


def _load(kind: type, job: Job, part: str, dtype: torch.dtype) -> Any:
    try:
        return kind.from_pretrained(job.family.part(part), dtype=dtype, use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"The {part} of {job.family.name} in {job.family.part(part)} cannot be loaded: {first}"
        ) from error


def _text_pipeline(job: Job) -> Any:
    from diffusers import CogVideoXImageToVideoPipeline

    pipeline = CogVideoXImageToVideoPipeline.from_pretrained(
        job.family.pipeline, transformer=None, vae=None, dtype=job.frozen_dtype, use_safetensors=True,
        local_files_only=True,
    )  # fmt: skip
    pipeline.text_encoder.to(job.state.device).eval()
    return pipeline


def _objective(job: Job, cache: precompute.Cache) -> Denoising:
    """The transformer with what is trained of it, ready for :meth:`Job.fit`."""
    from diffusers import CogVideoXImageToVideoPipeline, CogVideoXTransformer3DModel

    options, lora = job.options, job.options.method == "lora"
    # What is trained as a whole is kept in float32: AdamW's small steps vanish in bfloat16.
    transformer = _load(CogVideoXTransformer3DModel, job, "transformer", job.frozen_dtype if lora else torch.float32)
    adapter.merge(transformer, job.family.adapters)
    torch.manual_seed(options.seed)
    if lora:
        adapter.add(transformer, options.rank, options.alpha)
    else:
        transformer.requires_grad_(True)
    if job.checkpointing:
        transformer.enable_gradient_checkpointing()
    scheduler = load_scheduler(job.family.part("scheduler"))
    pipeline = CogVideoXImageToVideoPipeline(None, None, None, transformer, scheduler)
    pipeline.vae_scale_factor_spatial = spatial_factor(job.family)
    empty = cache.load_text("").float() if options.text_dropout else None
    trained = sum(p.numel() for p in transformer.parameters() if p.requires_grad)
    job.say(f"Training {trained / 1e6:.2f} million of {sum(p.numel() for p in transformer.parameters()) / 1e6:.2f} "
            "million weights.")  # fmt: skip
    return Denoising(
        transformer, scheduler, pipeline, None, options.image_dropout, options.text_dropout, empty
    )  # fmt: skip


def load_scheduler(folder: Path) -> Any:
    """The family's own noise levels."""
    import diffusers

    name = diffusers.CogVideoXDDIMScheduler.load_config(folder)["_class_name"]
    return getattr(diffusers, name).from_pretrained(folder)


@torch.no_grad()
def validation_loss(objective: Denoising, cache: precompute.Cache, held: list[Episode], device: torch.device) -> float:
    """Mean error on held-back videos at fixed noise steps under fixed noise, so that two figures can be compared."""
    errors = []
    for number, episode in enumerate(held):
        batch = {key: value.to(device) for key, value in precompute.fixed_sample(cache, episode).items()}
        shape = list(batch["latents"].shape)
        shape[1] = objective.padded_frames(shape[1])
        for level in LEVELS:
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(1000 * number + level))
            errors.append(objective.error_at(batch, torch.tensor([level], device=device), noise.to(device)).item())
    return float(np.mean(errors))


def _preview(job: Job, objective: Denoising, cache: precompute.Cache, step: int) -> None:
    """Generates held-back videos from their first frames with the weights of now."""
    from diffusers import CogVideoXDPMScheduler, CogVideoXImageToVideoPipeline
    from PIL import Image

    made, scheduler = job.made, load_scheduler(job.family.part("scheduler"))
    if made.large:  # as goal videos are sampled, see torch_bridge/pipeline.py
        scheduler = CogVideoXDPMScheduler.from_config(scheduler.config, timestep_spacing="trailing")
    pipeline = CogVideoXImageToVideoPipeline(None, None, load_vae(job), objective.transformer, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    dtype = job.frozen_dtype
    for number, episode in enumerate(job.held[: job.options.videos]):
        true = job.shape.read(episode)
        text, empty = (cache.load_text(t)[None].to(job.state.device, dtype) for t in (episode.text, ""))
        pixels = pipeline(
            image=Image.fromarray(true[0]),
            prompt_embeds=text,
            negative_prompt_embeds=empty if made.guidance > 1 else None,
            height=job.shape.height,
            width=job.shape.width,
            num_frames=job.shape.frames,
            num_inference_steps=made.steps,
            guidance_scale=made.guidance,
            use_dynamic_cfg=made.large and made.guidance > 1,
            generator=torch.Generator("cpu").manual_seed(job.options.seed + number),
            output_type="np",
        ).frames[0]
        frames = (np.nan_to_num(pixels) * 255).round().astype(np.uint8)
        previews.write(job.previews(step), f"video-{number}", true, frames, made.fps)
    del pipeline
    precompute.release()


def save(job: Job, transformer: Any, result: Path) -> dict[str, Any]:
    """Writes the adapter, or the whole transformer in the dtype in which the base lies on the disk."""
    if job.options.method == "lora":
        adapter.save(transformer, result / adapter.FOLDER, job.frozen_dtype)
        return {"adapter": adapter.FOLDER}
    transformer.to(dtype_on_disk(job.family.part("transformer"))).save_pretrained(
        result / "transformer", safe_serialization=True, max_shard_size="5GB"
    )
    return {"folders": {"transformer": "transformer"}}


def dtype_on_disk(folder: Path) -> torch.dtype:
    """Of the floating-point weights in a model's folder."""
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118
                dtype = file.get_tensor(key).dtype
                if dtype.is_floating_point:
                    return dtype
    return torch.float32
