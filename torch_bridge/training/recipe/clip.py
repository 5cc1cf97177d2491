"""CLIP's recipe."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch

from genreward_jax.demonstrations import captions
from genreward_jax.demonstrations.split import tasks_of
from torch_bridge.training import augment, loop, rendered
from torch_bridge.training.recipe.common import SIZE, split, start


def train(data: Path, work: Path, steps: int) -> None:
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
