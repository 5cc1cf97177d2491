"""LoRA adapters on the attention projections of a CogVideoX transformer, in diffusers' own file format."""

from pathlib import Path

import torch
from torch import nn

FOLDER = "transformer_lora"
_PROJECTIONS = ["to_q", "to_k", "to_v", "to_out.0"]


def add(transformer: nn.Module, rank: int, alpha: int) -> None:
    """Freezes the transformer and lays an adapter over it that changes nothing yet; its weights are float32."""
    from peft import LoraConfig

    transformer.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha, init_lora_weights=True, target_modules=_PROJECTIONS)
    transformer.add_adapter(config)
    for parameter in transformer.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.float()


def save(transformer: nn.Module, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Writes ``pytorch_lora_weights.safetensors`` into ``folder``, for ``load_lora_weights``; rank and alpha within."""
    from diffusers import CogVideoXImageToVideoPipeline
    from peft import get_peft_model_state_dict

    weights = {key: value.to(dtype) for key, value in get_peft_model_state_dict(transformer).items()}
    about = transformer.peft_config["default"].to_dict()
    CogVideoXImageToVideoPipeline.save_lora_weights(
        folder, transformer_lora_layers=weights, transformer_lora_adapter_metadata=about, safe_serialization=True
    )


def merge(transformer: nn.Module, folders: tuple[Path, ...]) -> None:
    """Adds adapters that the base brings to its weights, one after the other."""
    from diffusers import CogVideoXImageToVideoPipeline

    pipeline = CogVideoXImageToVideoPipeline(None, None, None, transformer, None)
    for folder in folders:
        pipeline.load_lora_weights(str(folder), use_safetensors=True, local_files_only=True)
        pipeline.fuse_lora(components=["transformer"])
        pipeline.unload_lora_weights()
