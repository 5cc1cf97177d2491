"""How a model family makes goal videos: whether it can, at which size and length, and with which defaults. No torch."""

import json
from dataclasses import dataclass
from typing import Any

from genreward_jax.errors import UserError
from torch_bridge.families import PIPELINE, Family, digest

_WEIGHTS = ("transformer", "text_encoder", "vae")  # of a pipeline's parts; the others are configurations and words
# Frames in two latent frames. The makers give 8k + 1 too: the autoencoder decodes latent frames in twos and keeps the
# first apart only where their number is odd, so that 4k + 1 frames with an odd k come out as 4k + 4.
_STEP = 8
# CogVideoX 1.5 as its makers give it: the shorter side 768 pixels, 81 frames at 16 a second. 1.0: 49 at 8.
_SIDE_15, _FPS = 768, {True: 16.0, False: 8.0}
OFFLOAD = ("none", "model", "sequential")


@dataclass(frozen=True)
class Making:
    """One family's way of making a video.

    Attributes:
        frames: Of a video, 8k + 1.
        steps: Of denoising.
        guidance: Weight of classifier-free guidance; 1 is none.
        width, height: In pixels, of what the model makes.
        fps: Frames a second.
        max_text: Tokens of the prompt; longer ones are cut.
        dtype: float32 or bfloat16.
        fixed: Learned positions: no other size and no other number of frames.
        large: A CogVideoX as its makers publish it: their sampler and guidance, and bfloat16.
    """

    frames: int
    steps: int
    guidance: float
    width: int
    height: int
    fps: float
    max_text: int
    dtype: str
    fixed: bool
    large: bool


def making(family: Family, frames: int = 0, steps: int = 0, guidance: float = 0.0, dtype: str = "float32") -> Making:
    """The family's way of making a video, with the numbers that are not 0 in place of its own.

    Args:
        family: Resolved with ``generates``.
        dtype: Of a small family; a large one is always computed in bfloat16, in which it was trained.

    Raises:
        UserError: A part of the pipeline is missing, it makes videos of text alone, or no such number of frames.
    """
    config = _transformer_config(family)
    own = family.generation or {}
    large, newer = bool(own.get("large", family.generation is None)), bool(config.get("patch_size_t"))
    fixed = bool(config.get("use_learned_positional_embeddings"))
    height, width = (8 * int(config.get(f"sample_{side}", size)) for side, size in (("height", 60), ("width", 90)))
    if newer:  # its configuration names the largest that its positions reach; sides are multiples of 16
        height = width = min(_SIDE_15, height // 16 * 16, width // 16 * 16)
    made = Making(
        frames=frames or int(own.get("frames", config.get("sample_frames", 49))),
        steps=steps or int(own.get("steps", 50)),
        guidance=guidance or float(own.get("guidance", 6.0)),
        width=int(own.get("width", width)),
        height=int(own.get("height", height)),
        fps=float(own.get("fps", _FPS[newer])),
        max_text=int(own.get("max_text", config.get("max_text_seq_length", 226))),
        dtype="bfloat16" if large else dtype,
        fixed=fixed,
        large=large,
    )
    _check_frames(made, int(config.get("sample_frames", 49)), family.name)
    return made


def check_frames(frames: int) -> None:
    """Refuses a number of frames that no CogVideoX can make.

    Raises:
        UserError: Not 8k + 1, or under 9; with the nearest that is possible.
    """
    if frames <= _STEP or frames % _STEP != 1:
        nearest = max(_STEP, round((frames - 1) / _STEP) * _STEP) + 1
        raise UserError(
            f"--goal.frames (FRAMES=) is {frames}: CogVideoX makes videos of 8k + 1 frames, the nearest is {nearest}"
        )


def model_digest(family: Family) -> str:
    """Content key of all that a generated video depends on in its model."""
    return digest([family.part(name) for name in PIPELINE] + list(family.adapters))


def _check_frames(made: Making, own: int, name: str) -> None:
    check_frames(made.frames)
    if made.fixed and made.frames != own:
        raise UserError(
            f"--goal.frames (FRAMES=) is {made.frames}, but {name} has learned positions and makes videos of {own} "
            f"frames only: leave it at 0, or use a CogVideoX 1.5"
        )


def _transformer_config(family: Family) -> dict[str, Any]:
    """Configuration of the family's transformer, after all parts were looked for."""
    for name in PIPELINE:
        folder = family.part(name)
        if not folder.is_dir() or (name in _WEIGHTS and not any(folder.glob("*.safetensors"))):
            lacks = "holds no .safetensors" if folder.is_dir() else "is missing"
            raise UserError(
                f"the model {family.name} makes no videos, its {name} {lacks} ({folder}): name a whole "
                f"CogVideoXImageToVideoPipeline (MODEL=), or give a video with GOAL=file"
            )
    if not (family.pipeline / "model_index.json").is_file():
        raise UserError(f"the model {family.name} makes no videos: {family.pipeline} has no model_index.json")
    try:
        config = json.loads((family.part("transformer") / "config.json").read_text())
        channels, made = int(config["in_channels"]), int(config["out_channels"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{family.part('transformer')} has no config.json of a transformer ({error!r})") from error
    if channels != 2 * made:
        raise UserError(
            f"the model {family.name} makes videos of a text alone (its transformer takes {channels} channels, "
            f"one that is given a first frame {2 * made}): use an image-to-video model such as THUDM/CogVideoX-5b-I2V"
        )
    return config
