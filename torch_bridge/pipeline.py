"""A family's image-to-video pipeline, loaded for generation or fine-tuning. Imports torch."""

import sys
from pathlib import Path
from typing import Any

import torch

from genreward_jax.errors import UserError
from torch_bridge.families import Family
from torch_bridge.generation import OFFLOAD, Making
from torch_bridge.memory import check_memory, size_of
from torch_bridge.repairs import repair_torchvision
from torch_bridge.training.adapter import merge

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_TILED = 256 * 256  # pixels of a frame above which the autoencoder works in tiles


def load_pipeline(family: Family, made: Making, device: torch.device, offload: str = "none") -> Any:
    """``CogVideoXImageToVideoPipeline`` with the family's replaced parts and adapters in it, on its device.

    Args:
        family: Resolved with ``generates``.
        made: From :func:`torch_bridge.generation.making`; says dtype, size, and whether it is a large model.
        device: CPU or CUDA.
        offload: 'none'; 'model' keeps only the part at work on the GPU, 'sequential' only its layer at work.

    Raises:
        UserError: Offloading without a GPU, too little memory, or a part that cannot be loaded.
    """
    if offload not in OFFLOAD:
        raise UserError(f"--goal.offload is {offload!r}: {', '.join(OFFLOAD)}")
    if offload != "none" and device.type != "cuda":
        raise UserError(
            f"--goal.offload {offload} moves parts between GPU and memory, but the model runs on the CPU here: "
            "leave it out"
        )
    _check_memory(family, made.dtype, device, offload)
    repair_torchvision()
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()
    dtype = _DTYPES[made.dtype]
    try:
        replaced = {name: _load_part(diffusers, name, folder, dtype) for name, folder in family.replaced.items()}
        pipeline = diffusers.CogVideoXImageToVideoPipeline.from_pretrained(
            family.pipeline, dtype=dtype, use_safetensors=True, local_files_only=True, **replaced
        )
        merge(pipeline.transformer, family.adapters)
        _check_complete(pipeline)
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{family.pipeline} could not be loaded as an image-to-video pipeline: {first}") from error
    if made.large:  # as CogVideoX's own scripts sample from 5B models
        pipeline.scheduler = diffusers.CogVideoXDPMScheduler.from_config(
            pipeline.scheduler.config, timestep_spacing="trailing"
        )
    if made.width * made.height > _TILED:
        pipeline.vae.enable_slicing()
        pipeline.vae.enable_tiling()
    {
        "none": lambda: pipeline.to(device),
        "model": pipeline.enable_model_cpu_offload,
        "sequential": pipeline.enable_sequential_cpu_offload,
    }[offload]()
    pipeline.set_progress_bar_config(
        desc="goal video", unit="step", file=sys.stderr, mininterval=0.1 if sys.stderr.isatty() else 15.0
    )
    return pipeline


def _check_memory(family: Family, dtype: str, device: torch.device, offload: str) -> None:
    """Refuses what does not fit: all parts where they run, or in the machine's memory what waits there."""
    folders = {name: family.part(name) for name in ("transformer", "text_encoder", "vae")}
    if offload == "none":
        small = "--goal.offload model keeps one part at a time on it" if device.type == "cuda" else ""
        check_memory(folders, dtype, device, small)
        return
    check_memory(folders, dtype, "cpu")
    if offload == "model":
        largest = max(folders, key=lambda name: size_of(folders[name], dtype))
        check_memory({largest: folders[largest]}, dtype, device, "--goal.offload sequential needs the least")


def _load_part(diffusers: Any, name: str, folder: Path, dtype: torch.dtype) -> Any:
    classes = {"vae": diffusers.AutoencoderKLCogVideoX, "transformer": diffusers.CogVideoXTransformer3DModel}
    if name not in classes:
        raise UserError(f"a family can replace the base's vae and transformer, not its {name} ({folder})")
    return classes[name].from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True)


def _check_complete(pipeline: Any) -> None:
    """Refuses weights that lack what the configuration asks for: the library leaves such tensors without content."""
    for name in ("transformer", "text_encoder", "vae"):
        empty = [key for key, value in getattr(pipeline, name).named_parameters() if value.is_meta]
        if empty:
            raise ValueError(f"the weights of its {name} lack {len(empty)} tensors, such as {empty[0]}")
