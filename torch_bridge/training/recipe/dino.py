"""DINO's recipe."""

from pathlib import Path

import numpy as np
import torch

from torch_bridge.training import loop, rendered
from torch_bridge.training.recipe.common import split, start


def train(data: Path, work: Path, steps: int) -> None:
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
