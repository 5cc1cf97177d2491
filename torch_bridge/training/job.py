"""One fine-tuning: what it works on and where, shared by its parts. Imports torch."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from genreward_jax.datasets import clips
from genreward_jax.datasets.clips import Episode
from genreward_jax.errors import UserError
from genreward_jax.progress import say
from torch_bridge.families import Family
from torch_bridge.generation import Making
from torch_bridge.training import loop
from torch_bridge.training.options import Options
from torch_bridge.training.precompute import Shape

HELD_MOST = 16  # videos that are held back where a tenth would be more


@dataclass
class Job:
    """What all parts of a run need.

    Attributes:
        options: Complete: every number is there.
        family: What is started from.
        made: How the family makes a video, with the run's frames and size.
        large: Whether the model gets the 5B model's treatment.
        shape: What videos become.
        work: Folder of everything that is not the result.
        state: accelerate's ``PartialState``: device, rank, number of processes.
        kept, held: Episodes to train on, and to validate on.
    """

    options: Options
    family: Family
    made: Making
    large: bool
    shape: Shape
    work: Path
    state: Any
    kept: list[Episode] = field(default_factory=list)
    held: list[Episode] = field(default_factory=list)

    @property
    def precision(self) -> str:
        """accelerate's mixed precision."""
        if self.options.precision != "auto":
            return self.options.precision
        return "bf16" if self.state.device.type == "cuda" and torch.cuda.is_bf16_supported() else "no"

    @property
    def frozen_dtype(self) -> torch.dtype:
        """Of weights that are not trained: half the memory for large models where bfloat16 is computed with."""
        return torch.bfloat16 if self.large and self.precision == "bf16" else torch.float32

    @property
    def checkpointing(self) -> bool:
        """Whether activations are computed twice."""
        return self.large if self.options.checkpointing == "auto" else self.options.checkpointing == "on"

    @property
    def losses(self) -> Path:
        """Losses of the run, a JSON object a line."""
        return self.work / "run" / "losses.jsonl"

    def say(self, text: str) -> None:
        """A sentence for the user, from the first process."""
        if self.state.is_main_process:
            say(text)

    def divide(self, usable: list[Episode]) -> None:
        """Sets ``kept`` and ``held``; with a single video, or ``--validation 0``, it validates on what it trains on."""
        wanted = self.options.validation
        number = min(max(1, round(len(usable) / 10)), HELD_MOST) if wanted < 0 else wanted
        if number >= len(usable) > 1:
            raise UserError(f"--validation {number} leaves none of {len(usable)} videos to train on; hold fewer back.")
        self.kept, self.held = usable, usable[:1]
        if number and len(usable) > 1:
            # Evenly over the list, so that each task of a list in order has its share; from the last backwards.
            places = {len(usable) - 1 - i * len(usable) // number for i in range(number)}
            self.kept = [episode for i, episode in enumerate(usable) if i not in places]
            self.held = [episode for i, episode in enumerate(usable) if i in places]
        else:
            self.say("No video is held back: the validation's figures are of videos that are trained on.")

    def fit(
        self,
        objective: torch.nn.Module,
        batch: Callable,
        measure: Callable[[int], dict[str, float]],
    ) -> None:
        """Trains; see :func:`torch_bridge.training.loop.fit`. Only the first process measures.

        Raises:
            UserError: The loss is no number any more.
        """
        options = self.options
        settings = loop.Settings(
            steps=options.steps,
            lr=options.lr,
            warmup=options.warmup,
            decay=0.0,
            betas=(0.9, 0.95),
            weight_decay=options.weight_decay,
            clip=options.clip,
            accumulate=options.batch // options.micro,
            seed=options.seed,
            save_every=900.0 if self.large else 120.0,  # gigabytes, against moments
            validate_every=options.validate_every,
            validate_first=True,
        )
        try:
            loop.fit(
                objective,
                batch,
                settings,
                self.losses.parent,
                options.kind,
                self.precision,
                measure if self.state.is_main_process else lambda step: {},
                self.say,
            )
        except FloatingPointError as error:
            raise UserError(f"Training broke off: {error} (--lr is {options.lr:g}).") from error

    def previews_due(self, step: int) -> bool:
        """Whether held-back videos are generated at a validation."""
        options = self.options
        every = options.videos_every and step % options.videos_every == 0
        return bool(options.videos) and (step in (0, options.steps) or bool(every))

    def previews(self, step: int) -> Path:
        """Folder of the videos of a step, made."""
        folder = self.options.out / "samples" / f"step-{step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def autocast(self) -> torch.autocast:
        """The precision of training, for what is computed outside of it."""
        return torch.autocast(self.state.device.type, torch.bfloat16, enabled=self.precision == "bf16")


def spatial_factor(family: Family) -> int:
    """Pixels that become one latent place, along a side."""
    config = json.loads((family.part("vae") / "config.json").read_text())
    return 2 ** (len(config["block_out_channels"]) - 1)


def shape_of(options: Options, made: Making, patch: int) -> Shape:
    """Frames and pixels of the run: the model's own, or what was asked for.

    Raises:
        UserError: What the model cannot take.
    """
    size = options.height or made.height, options.width or made.width
    frames = options.frames or made.frames
    if made.fixed and (frames, *size) != (made.frames, made.height, made.width):
        raise UserError(
            f"This model has learned positions and takes {made.frames} frames of {made.width}x{made.height} only: "
            "leave --frames, --height and --width out."
        )
    clips.check_size(size, patch)
    return Shape(frames, *size, options.stride, options.fit)
