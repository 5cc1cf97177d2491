"""The recipe of the embedded family: four parts, each trained from nothing on the rendered data set.

    python -m torch_bridge.training.embedded --part vae|transformer|clip|dino --data DIR --work DIR

``make models`` runs them all. Each part is resumable and leaves its model under ``WORK/embedded/<part>``, in the
library's own folder format; the part 'transformer' needs the part 'vae'.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

from genreward_jax.cache import make_once
from genreward_jax.demonstrations import captions
from genreward_jax.demonstrations.split import tasks_of
from genreward_jax.errors import UserError
from torch_bridge.embedded import MAX_TEXT
from torch_bridge.repairs import repair_torchvision
from torch_bridge.training import augment, loop, rendered
from torch_bridge.training.clip import blank_words

SIZE = 64
FRAMES = 17  # of a goal video, one every 8 simulator steps: the 128 steps of one reward window


def split(videos: list[rendered.Video]) -> tuple[list[rendered.Video], list[rendered.Video]]:
    """Videos to train on, and those held back for validation: the last expert of each task and quality."""
    last = {}
    for video in videos:
        if video.row["behaviour"] == "expert":
            last[video.row["task"], video.row["quality"]] = video
    held = list(last.values())
    return [v for v in videos if not any(v is other for other in held)], held


def start(work: Path) -> Path:
    """The untrained family that all parts begin with."""
    from torch_bridge import embedded

    return make_once(work / "untrained", embedded.make)


def train_vae(data: Path, work: Path, steps: int) -> None:
    """The autoencoder, on clips from every behaviour in both qualities; the second half of them made strange.

    With rendered scenes alone it learns those scenes: the blue bin and the shelf of tasks that it had not seen came
    back as wood (22 and 25 dB). So the last part of the steps sees shapes and colours of all kinds.
    """
    from diffusers import AutoencoderKLCogVideoX

    from torch_bridge.training import vae

    model = AutoencoderKLCogVideoX.from_pretrained(start(work) / "vae", dtype=torch.float32)
    kept, held = split(rendered.load(data))
    full = [v for v in kept if v.row["quality"] == "full"]
    fast = [v for v in kept if v.row["quality"] == "fast"]

    def clips(rng: np.random.Generator, number: int, frames: int) -> np.ndarray:
        # A quarter in full quality, though it is a tenth of the data: users have both.
        sources = [full if full and rng.random() < 0.25 else fast for _ in range(number)]
        videos = [source[rng.integers(len(source))] for source in sources]
        return np.stack([rendered.clip(video, rng, frames, (4, 8, 16)) for video in videos])

    def strange(rng: np.random.Generator) -> torch.Tensor:
        return augment.scenes(torch.from_numpy(clips(rng, 4, 9)), 0.7)

    rng = np.random.default_rng(0)
    checks = np.stack([rendered.clip(video, rng, 17, (8,)) for video in held[:24]])
    measure, plain = vae.validation(model, checks), max(1, round(steps * PLAIN))
    first = loop.Settings(steps=plain, lr=1e-3, warmup=100, decay=0.5, validate_every=500, seed=1)
    loop.fit(vae.Reconstruction(model), lambda rng: clips(rng, 4, 9), first, work / "vae", "vae", "bf16", measure)
    second = loop.Settings(steps=steps - plain, lr=1e-3, warmup=50, decay=0.6, validate_every=300, seed=5)
    loop.fit(vae.Reconstruction(model), strange, second, work / "vae-strange", "vae, strange scenes", "bf16", measure)
    model.cpu()
    _set_scaling(model, kept)
    model.to(torch.float16).save_pretrained(work / "embedded" / "vae", safe_serialization=True)


def _set_scaling(model, kept: list[rendered.Video]) -> None:
    """The factor by which latents become of spread 1, as the diffusion model wants them."""
    from torch_bridge.training.vae import to_pixels

    rng = np.random.default_rng(3)
    clips = np.stack([rendered.clip(kept[rng.integers(len(kept))], rng, 17, (8,)) for _ in range(64)])
    with torch.no_grad():
        spread = torch.cat([model.encode(to_pixels(torch.from_numpy(c[None]))).latent_dist.mean for c in clips]).std()
    model.register_to_config(scaling_factor=round(float(1 / spread), 4))


def train_clip(data: Path, work: Path, steps: int) -> None:
    """open_clip, on single frames of all behaviours and captions of episodes and phases."""
    import open_clip
    from open_clip.push_to_hf_hub import save_for_hf

    from torch_bridge.training import clip

    folder = start(work) / "clip"
    name = f"local-dir:{folder}"
    model, tokenizer = open_clip.create_model(name).float(), open_clip.get_tokenizer(name)
    tasks = tasks_of("training")
    known = clip.captions_of(tasks)
    truth = np.zeros((len(known), len(tasks), len(captions.PHASES)), bool)
    for row, caption in enumerate(known):
        for phase in caption.phases:
            truth[row, slice(None) if caption.task < 0 else caption.task, phase] = True
    tokens = np.asarray(tokenizer([caption.text for caption in known]))
    special = tokenizer.tokenizer
    objective = clip.Matching(model, tokens, truth, special.unk_token_id, special.unk_token_id + 1)
    frames = _LabelledFrames(rendered.load(data), tasks)
    checks = frames.batch(np.random.default_rng(0), 64, 4, held=True)

    def batch(rng: np.random.Generator) -> dict:
        made = frames.batch(rng, 24, 4)
        images = augment.random_crops(made["images"], SIZE, (0.92, 1.0))
        made["images"] = normalised(augment.blur(augment.colours(images, 0.1), 0.5))
        made["captions"] = rng.choice(len(known), 192, replace=False)
        return made

    def measure(_: int) -> dict[str, float]:
        return clip_accuracy(model, tokenizer, {**checks, "images": normalised(checks["images"])}, tasks)

    normalised = _normaliser(model.visual.preprocess_cfg)
    settings = loop.Settings(steps=steps, lr=1e-3, warmup=100, decay=0.5, weight_decay=0.05, validate_every=500, seed=2)
    loop.fit(objective, batch, settings, work / "clip", "clip", "bf16", measure)
    out = work / "embedded" / "clip"
    shutil.copytree(folder, out, dirs_exist_ok=True)
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    save_for_hf(model.cpu().half(), tokenizer, config, out, safe_serialization=True)


class _LabelledFrames:
    """Frames by task and phase, for CLIP."""

    def __init__(self, videos: list[rendered.Video], tasks: tuple[str, ...]) -> None:
        number = {phase: i for i, phase in enumerate(captions.PHASES)}
        kept, held = split(videos)
        self._kept, self._held = (
            [
                (v.frames, tasks.index(v.row["task"]), np.array([number.get(p, -1) for p in v.row["phases"]]))
                for v in part
            ]
            for part in (kept, held)
        )

    def batch(self, rng: np.random.Generator, videos: int, each: int, held: bool = False) -> dict:
        """``each`` frames from each of some videos, rare phases as often as common ones."""
        source, images, task, phase = self._held if held else self._kept, [], [], []
        for index in rng.integers(len(source), size=videos):
            frames, number, phases = source[index]
            counts = np.bincount(phases + 1, minlength=len(captions.PHASES) + 1).astype(float)
            weight = np.where(phases < 0, 0.0, 1 / np.maximum(counts[phases + 1], 1))
            chosen = rng.choice(len(frames), each, p=weight / weight.sum())
            images.append(frames[chosen])
            task += [number] * each
            phase += list(phases[chosen])
        pixels = torch.from_numpy(np.concatenate(images)).permute(0, 3, 1, 2).float() / 255
        return {"images": pixels, "task": np.array(task), "phase": np.array(phase)}


def _normaliser(config: dict):
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    return lambda images: (images - mean) / std


def clip_accuracy(model, tokenizer, checks: dict, tasks: tuple[str, ...]) -> dict[str, float]:
    """Share of held-back frames whose phase, and whose task, the nearest caption names rightly."""

    device = next(model.parameters()).device
    images = model.encode_image(checks["images"].to(device), normalize=True)

    def nearest(texts: list[str]) -> np.ndarray:
        text = model.encode_text(tokenizer(texts).to(device), normalize=True)
        return (images @ text.T).argmax(1).cpu().numpy()

    phases = nearest([captions.any_task_captions(phase)[0] for phase in captions.PHASES])
    named = nearest([captions.phase_captions(task, "away")[0] for task in tasks])
    same = [captions.phase_captions(tasks[a], "away")[0] == captions.phase_captions(tasks[b], "away")[0]
            for a, b in zip(named, checks["task"], strict=True)]  # fmt: skip
    return {"phase": float(np.mean(phases == checks["phase"])), "task": float(np.mean(same))}


def train_dino(data: Path, work: Path, steps: int) -> None:
    """DINOv3's network by self-distillation, on single frames of all behaviours without labels."""
    from transformers import DINOv3ViTModel

    from torch_bridge.training.dino import SelfDistillation

    model = DINOv3ViTModel.from_pretrained(start(work) / "dino", dtype=torch.float32)
    kept, _ = split(rendered.load(data))
    objective = SelfDistillation(model, steps)

    def batch(rng: np.random.Generator) -> np.ndarray:
        videos = [kept[i] for i in rng.integers(len(kept), size=24)]
        # Two moments of each video: what tells them apart is the arm, not the scene.
        return np.stack([video.frames[i] for video in videos for i in rng.integers(len(video.frames), size=2)])

    settings = loop.Settings(steps=steps, lr=5e-4, warmup=50, decay=0.6, weight_decay=0.04, seed=3)
    loop.fit(objective, batch, settings, work / "dino", "dino", "bf16", after_step=SelfDistillation.follow)
    objective.teacher.to(torch.float16).save_pretrained(work / "embedded" / "dino", safe_serialization=True)


def train_transformer(data: Path, work: Path, steps: int) -> None:
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
        'latents' float16 (N, 5, 16, 8, 8), 'image' (N, 1, 16, 8, 8), 'task' and 'start' (simulator steps) int64 (N,).
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


CLIP_STEPS = 128  # simulator steps that a goal video spans
STEPS = {"vae": 2700, "transformer": 2200, "clip": 1600, "dino": 250}
PLAIN = 5 / 9  # share of the autoencoder's steps on the scenes as they were rendered
TRAIN = {"vae": train_vae, "transformer": train_transformer, "clip": train_clip, "dino": train_dino}


def assemble(work: Path) -> None:
    """Puts what is not trained beside the parts, and the manifest once all of them are there."""
    family, untrained = work / "embedded", start(work)
    for name in ("tokenizer", "scheduler"):
        shutil.copytree(untrained / name, family / name, dirs_exist_ok=True)
    shutil.copy(untrained / "model_index.json", family)
    if all(any((family / part).glob("*.safetensors")) for part in (*STEPS, "text_encoder")):
        manifest = json.loads((untrained / "family.json").read_text()) | {"name": "embedded", "trained": True}
        (family / "family.json").write_text(json.dumps(manifest, indent=2) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Trains one part; the exit code is 2 where the user can mend what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m torch_bridge.training.embedded")
    parser.add_argument("--part", required=True, choices=tuple(STEPS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=1.0, help="times the recipe's number of steps")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    repair_torchvision()
    try:
        TRAIN[args.part](args.data, args.work, max(1, round(STEPS[args.part] * args.scale)))
        assemble(args.work)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
