"""S3D-G with a text tower, the network of RoboCLIP: videos and sentences in one space of 512 numbers.

The weights are those that were published for HowTo100M (Miech et al., "End-to-End Learning of Visual Representations
from Uncurated Instructional Videos", 2020), converted once by :func:`convert`. Layers follow Xie et al., "Rethinking
Spatiotemporal Feature Learning", 2018, table of S3D-G; parameters have the names that the published file gives them.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from genreward_jax.errors import UserError
from torch_bridge.images import to_square

SIZE = 224  # pixels of a frame
_SHORTEST = 16  # frames: below it nothing is left of time after three halvings
_WORDS = 16  # of a sentence; the others are dropped
_EMBEDDING = "text_module.word_embd.weight"
# Outputs of each mixed block: of the 1x1 branch, of the two 3x3x3 branches (reduced, then full), of the pooled one.
_MIXED = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}


class Convolution(nn.Module):
    """Convolution, normalisation, ReLU; a separable one does it in space first and then in time."""

    def __init__(self, inputs: int, outputs: int, kernel, padding=0, separable: bool = False) -> None:
        super().__init__()
        if separable:
            self.conv1 = nn.Conv3d(inputs, outputs, (1, kernel, kernel), padding=(0, padding, padding), bias=False)
            self.conv2 = nn.Conv3d(outputs, outputs, (kernel, 1, 1), padding=(padding, 0, 0), bias=False)
            self.bn2 = nn.BatchNorm3d(outputs)
        else:
            self.conv1 = nn.Conv3d(inputs, outputs, kernel, padding=padding, bias=False)
        self.bn1 = nn.BatchNorm3d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x))) if hasattr(self, "conv2") else x


class Gating(nn.Module):
    """Each channel times a weight that follows from the means of all of them: the G of S3D-G."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.fc(x.mean((2, 3, 4))))[..., None, None, None]


class Mixed(nn.Module):
    """Four branches side by side, each gated."""

    def __init__(self, inputs: int, plain: int, less1: int, full1: int, less2: int, full2: int, pooled: int) -> None:
        super().__init__()
        self.conv_b0 = Convolution(inputs, plain, 1)
        self.conv_b1_a = Convolution(inputs, less1, 1)
        self.conv_b1_b = Convolution(less1, full1, 3, 1, separable=True)
        self.conv_b2_a = Convolution(inputs, less2, 1)
        self.conv_b2_b = Convolution(less2, full2, 3, 1, separable=True)
        self.conv_b3_b = Convolution(inputs, pooled, 1)
        self.gating_b0, self.gating_b1 = Gating(plain), Gating(full1)
        self.gating_b2, self.gating_b3 = Gating(full2), Gating(pooled)
        self.outputs = plain + full1 + full2 + pooled

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.gating_b0(self.conv_b0(x))
        second = self.gating_b1(self.conv_b1_b(self.conv_b1_a(x)))
        third = self.gating_b2(self.conv_b2_b(self.conv_b2_a(x)))
        fourth = self.gating_b3(self.conv_b3_b(F.max_pool3d(x, 3, 1, 1)))
        return torch.cat([first, second, third, fourth], 1)


class Sentence(nn.Module):
    """Words looked up, each through a layer, the largest of all words, and a second layer."""

    def __init__(self, words: int, outputs: int) -> None:
        super().__init__()
        self.word_embd = nn.Embedding(words, 300)
        self.fc1, self.fc2 = nn.Linear(300, 2048), nn.Linear(2048, outputs)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """int64 (N, words), 0 where there is none, to (N, outputs)."""
        return self.fc2(F.relu(self.fc1(self.word_embd(words))).amax(1))


class S3D(nn.Module):
    """Float (B, 3, T, H, W) in [0, 1], T, H and W even, to (B, 512)."""

    def __init__(self, words: int, outputs: int = 512) -> None:
        super().__init__()
        self.conv1 = Convolution(8 * 3, 64, (2, 4, 4), (1, 2, 2))  # after two pixels each way became channels
        self.conv_2b, self.conv_2c = Convolution(64, 64, 1), Convolution(64, 192, 3, 1, separable=True)
        self.gating = Gating(192)
        channels = 192
        for name, sizes in _MIXED.items():
            setattr(self, name, Mixed(channels, *sizes))
            channels = getattr(self, name).outputs
        self.fc = nn.Linear(channels, outputs)
        self.text_module = Sentence(words, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, *sides = x.shape
        halves = [part for side in sides for part in (side // 2, 2)]
        x = x.view(batch, channels, *halves).permute(0, 3, 5, 7, 1, 2, 4, 6).flatten(1, 4)
        x = self.conv1(x)[:, :, 1:, 1:, 1:]  # an even kernel, padded on both sides, has one too many
        x = self.conv_2c(self.conv_2b(_pool(x, (1, 3, 3), (1, 2, 2))))
        x = _pool(self.gating(x), (1, 3, 3), (1, 2, 2))
        for name in _MIXED:
            if name == "mixed_4b":
                x = _pool(x, (3, 3, 3), (2, 2, 2))
            if name == "mixed_5b":
                x = _pool(x, (2, 2, 2), (2, 2, 2))
            x = getattr(self, name)(x)
        return self.fc(x.mean((2, 3, 4)))


def _pool(x: torch.Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> torch.Tensor:
    """Largest of each window, zeros padded at the end as the published network does; values are never negative."""
    around = [max(k - s, 0) for k, s in zip(kernel, stride, strict=True)]
    padded = F.pad(x, [part for total in reversed(around) for part in (total // 2, total - total // 2)])
    return F.max_pool3d(padded, kernel, stride, ceil_mode=True)


class VideoTextS3D:
    """A folder with ``config.json``, ``words.json`` and ``model.safetensors``, as :func:`convert` writes it."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        from safetensors.torch import load_file

        words = json.loads((folder / "words.json").read_text())
        self.words = {word: number + 1 for number, word in enumerate(words)}  # 0 is no word
        state = load_file(folder / "model.safetensors")
        self.model = S3D(len(state[_EMBEDDING]))
        self.model.load_state_dict(state)
        self.model.to(device=device, dtype=dtype).eval().requires_grad_(False)
        self.device, self.dtype, self.size = device, dtype, SIZE

    @torch.inference_mode()
    def embed_video(self, videos: np.ndarray) -> np.ndarray:
        """uint8 (B, T, H, W, 3) to float32 (B, 512), not normalised; short or odd videos repeat their last frame."""
        count = max(_SHORTEST, videos.shape[1] + videos.shape[1] % 2)
        videos = videos[:, np.minimum(np.arange(count), videos.shape[1] - 1)]
        pixels = to_square(videos.reshape(-1, *videos.shape[2:]), SIZE, "bilinear", self.device)
        pixels = pixels.unflatten(0, videos.shape[:2]).transpose(1, 2).to(self.dtype)
        return self.model(pixels).float().cpu().numpy()

    @torch.inference_mode()
    def embed_video_text(self, texts: list[str]) -> np.ndarray:
        """N sentences to float32 (N, 512); words that the model never saw are left out."""
        rows = np.zeros((len(texts), _WORDS), np.int64)
        for row, text in zip(rows, texts, strict=True):
            known = [self.words[word] for word in re.findall(r"[\w']+", text.lower()) if word in self.words]
            row[: min(len(known), _WORDS)] = known[:_WORDS]
        return self.model.text_module(torch.from_numpy(rows).to(self.device)).float().cpu().numpy()


def convert(weights: Path, words: Path, out: Path) -> None:
    """Turns the published ``s3d_howto100m.pth`` and ``s3d_dict.npy`` into a folder that :class:`VideoTextS3D` loads.

    Tensors and words are all that is read: a file that holds anything else is refused, not run.

    Raises:
        UserError: Not these files, or a folder that is not empty.
    """
    from safetensors.torch import save_file

    from genreward_jax.cache import make_once

    if out.exists():
        raise UserError(f"{out} exists already; name a new folder.")
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        names = np.load(words, allow_pickle=False)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{weights} and {words} are not the published weights and words of S3D: {first}") from error
    listed = [str(word) for word in np.asarray(names).ravel()]
    try:
        model = S3D(len(state[_EMBEDDING]))
        model.load_state_dict(state)
        if len(listed) >= len(state[_EMBEDDING]):
            raise RuntimeError(f"it knows {len(state[_EMBEDDING]) - 1:,} words")
    except (RuntimeError, AttributeError, TypeError, KeyError) as error:
        first = " ".join(str(error).split())[:200]
        raise UserError(f"{weights} does not fit S3D with the {len(listed):,} words of {words}: {first}") from error

    def fill(folder: Path) -> None:
        save_file(
            {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors"
        )
        (folder / "words.json").write_text(json.dumps(listed) + "\n")
        (folder / "config.json").write_text(json.dumps({"model_type": "s3d", "image_size": SIZE}) + "\n")

    make_once(out, fill)


def main(argv: list[str] | None = None) -> int:
    """``python -m genreward_jax convert-s3d``; the exit code is 2 where the user can mend what went wrong."""
    parser = argparse.ArgumentParser("genreward_jax convert-s3d", description=convert.__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, help="s3d_howto100m.pth")
    parser.add_argument("words", type=Path, help="s3d_dict.npy")
    parser.add_argument("--out", type=Path, required=True, help="a new folder, for --model.video_text")
    given = parser.parse_args(argv)
    try:
        convert(given.weights, given.words, given.out)
    except UserError as error:
        print(f"genreward_jax: {error}", file=sys.stderr)
        return 2
    print(f"{given.out} is ready: make train METHOD=roboclip FLAGS='--model.video_text {given.out}'")
    return 0


if __name__ == "__main__":
    sys.exit(main())
