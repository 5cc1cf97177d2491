"""Capabilities ``embed_image`` and ``embed_text``: an open_clip model (eq. 6)."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from torch_bridge.images import to_square


class TextImageEncoder:
    """An open_clip folder: ``open_clip_config.json``, weights, and tokenizer files if it has its own vocabulary."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        import open_clip

        name = f"local-dir:{folder}"
        self.model = open_clip.create_model(name, require_pretrained=True)
        self.model.to(device=device, dtype=dtype).eval().requires_grad_(False)
        self.tokenizer = open_clip.get_tokenizer(name)
        self.device, self.dtype = device, dtype
        wanted = self.model.visual.preprocess_cfg
        size = wanted["size"]
        self.size = size if isinstance(size, int) else int(size[0])
        self.mode = wanted["interpolation"] if wanted["interpolation"] in ("bicubic", "bilinear") else "bicubic"
        self.mean, self.std = (torch.tensor(wanted[k], device=device).view(3, 1, 1) for k in ("mean", "std"))

    @torch.inference_mode()
    def embed_image(self, frames: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) to unit embeddings, float32 (N, D)."""
        pixels = to_square(frames, self.size, self.mode, self.device)
        pixels = ((pixels - self.mean) / self.std).to(self.dtype)
        return F.normalize(self.model.encode_image(pixels).float(), dim=-1).cpu().numpy()

    @torch.inference_mode()
    def embed_text(self, texts: list[str]) -> np.ndarray:
        """N sentences to unit embeddings, float32 (N, D)."""
        tokens = self.tokenizer(list(texts)).to(self.device)
        return F.normalize(self.model.encode_text(tokens).float(), dim=-1).cpu().numpy()
