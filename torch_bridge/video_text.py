"""Capabilities ``embed_video`` and ``embed_video_text``: a model that puts videos and sentences into one space."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genreward_jax.errors import UserError
from genreward_jax.windows import sample_indices
from torch_bridge.images import to_square

# CLIP's own preprocessing, which X-CLIP's preprocessor_config.json repeats.
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """The model of a folder whose ``config.json`` says of which kind it is.

    Raises:
        UserError: Of none that is known.
    """
    kind = json.loads((folder / "config.json").read_text()).get("model_type")
    if kind == "xclip":
        return XClip(folder, device, dtype)
    if kind == "s3d":
        from torch_bridge.s3d import VideoTextS3D

        return VideoTextS3D(folder, device, dtype)
    raise UserError(
        f"{folder} holds a model of type {kind!r}; --model.video_text takes X-CLIP (transformers) or an S3D that "
        "`python -m genreward_jax convert-s3d` made"
    )


class XClip:
    """``transformers.XCLIPModel``: features of video and text apart, without the prompts that a video gives a text."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        from transformers import AutoTokenizer, XCLIPModel

        self.model = XCLIPModel.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True)
        self.model.to(device).eval().requires_grad_(False)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.device, self.dtype = device, dtype
        vision = self.model.config.vision_config
        self.size, self.frames = int(vision.image_size), int(vision.num_frames)
        self.length = int(self.model.config.text_config.max_position_embeddings)
        self.mean, self.std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (_MEAN, _STD))

    @torch.inference_mode()
    def embed_video(self, videos: np.ndarray) -> np.ndarray:
        """uint8 (B, T, H, W, 3), of which the model's own number of frames is sampled, to float32 (B, D)."""
        videos = videos[:, sample_indices(videos.shape[1], self.frames)]
        pixels = to_square(videos.reshape(-1, *videos.shape[2:]), self.size, "bicubic", self.device)
        pixels = ((pixels - self.mean) / self.std).unflatten(0, videos.shape[:2]).to(self.dtype)
        return self.model.get_video_features(pixel_values=pixels).pooler_output.float().cpu().numpy()

    @torch.inference_mode()
    def embed_video_text(self, texts: list[str]) -> np.ndarray:
        """N sentences to float32 (N, D)."""
        tokens = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
        )
        given = {key: tokens[key].to(self.device) for key in ("input_ids", "attention_mask")}
        return self.model.get_text_features(**given).pooler_output.float().cpu().numpy()


class MeanOfFrames:
    """What stands in where a family has no such model: the mean of its CLIP's unit embeddings of all frames."""

    def __init__(self, clip: Any) -> None:
        self.clip, self.model = clip, clip.model

    def embed_video(self, videos: np.ndarray) -> np.ndarray:
        """uint8 (B, T, H, W, 3) to float32 (B, D)."""
        embedded = self.clip.embed_image(videos.reshape(-1, *videos.shape[2:]))
        return embedded.reshape(*videos.shape[:2], -1).mean(1)

    def embed_video_text(self, texts: list[str]) -> np.ndarray:
        """N sentences to unit embeddings, float32 (N, D)."""
        return self.clip.embed_text(texts)
