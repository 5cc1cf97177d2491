"""Capabilities ``embed_state``, DINOv3's pooled output (psi(I*) of section 3.3), and ``embed_regions``."""

from pathlib import Path

import numpy as np
import torch

from torch_bridge.images import to_square

# DINOv3's own preprocessing (its preprocessor_config.json): ImageNet's mean and spread, bilinear.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class StateEncoder:
    """``transformers.DINOv3ViTModel``; its configuration says at which size it sees a frame."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        from transformers import DINOv3ViTModel

        self.model = DINOv3ViTModel.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True)
        self.model.to(device).eval().requires_grad_(False)  # in training mode positions are rescaled at random
        size = self.model.config.image_size
        self.size = size if isinstance(size, int) else int(size[0])
        self.device, self.dtype = device, dtype
        self.mean, self.std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (_MEAN, _STD))

    @torch.inference_mode()
    def embed_state(self, frames: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) to the pooled output, float32 (N, hidden size); 384 in ViT-S/16+."""
        return self._outputs(frames).pooler_output.float().cpu().numpy()

    @torch.inference_mode()
    def embed_regions(self, frames: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) to the patches' features averaged over each quarter of the picture.

        The pooled output says what there is, hardly where. float32 (N, 4 * hidden size): upper left, upper right,
        lower left, lower right.
        """
        side = self.size // self.model.config.patch_size
        patches = self._outputs(frames).last_hidden_state[:, -side * side :]  # the class and register tokens come first
        grid = patches.float().reshape(len(frames), side, side, -1).permute(0, 3, 1, 2)
        quarters = torch.nn.functional.adaptive_avg_pool2d(grid, 2)
        return quarters.permute(0, 2, 3, 1).reshape(len(frames), -1).cpu().numpy()

    def _outputs(self, frames: np.ndarray):
        pixels = (to_square(frames, self.size, "bilinear", self.device) - self.mean) / self.std
        return self.model(pixel_values=pixels.to(self.dtype))
