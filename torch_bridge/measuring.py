"""Runs a family's models over the rendered evaluation set and leaves what they gave as arrays.

    python -m torch_bridge.measuring --family embedded --data DIR --out DIR

The figures are made of them in ``genreward_jax/evaluation/models.py``, in plain NumPy. The models are loaded and called
by the code that serves rewards and generates goals.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

from genreward_jax.config import read_yaml
from genreward_jax.demonstrations.render import INTERVAL, WINDOW
from genreward_jax.errors import UserError
from genreward_jax.video import read_frames
from genreward_jax.windows import sample_indices, sampled_steps
from torch_bridge.families import resolve
from torch_bridge.generate import sample
from torch_bridge.generation import making
from torch_bridge.models import ModelSet, choose_device
from torch_bridge.pipeline import load_pipeline
from torch_bridge.training.vae import reconstruction_psnr

CAPABILITIES = ("encode_video", "embed_image", "embed_text", "embed_state")
SHOWN = 8  # simulator steps between the frames that are judged one by one


class Measurement:
    """A family's models, and what they say of one episode after the other.

    Args:
        family: As ``--model.family``.
        device: auto, cpu or cuda.
    """

    def __init__(self, family: str, device: str = "auto") -> None:
        self._models = ModelSet(family, CAPABILITIES, device=device, say=_quietly)
        found = resolve(family, say=_quietly, generates=True)
        self._making = making(found)
        self._pipeline = load_pipeline(found, self._making, choose_device(device))
        self._pipeline.set_progress_bar_config(disable=True)
        self._tasks = read_yaml("tasks")

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """float32 latent, flat, of 16 frames sampled from uint8 (T, S, S, 3)."""
        sampled = frames[sample_indices(len(frames), WINDOW)]
        return self._models.call("encode_video", sampled[None])[0].ravel()

    def episode(self, frames: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Latents of an episode's reward windows, (windows, D)."""
        offsets, rows = sampled_steps(INTERVAL, WINDOW), []
        for begin in range(0, int(steps[-1]), INTERVAL):
            wanted = {begin + offset for offset in offsets}
            rows.append([i for i, step in enumerate(steps) if int(step) in wanted])
        return np.stack([self._models.call("encode_video", frames[row][None])[0].ravel() for row in rows])

    def expert(self, frames: np.ndarray, steps: np.ndarray, task: str, seed: int) -> dict[str, np.ndarray]:
        """All that is measured on an expert's episode alone: goals, features, scores (see the keys)."""
        shown = frames[steps % SHOWN == 0]
        true = shown[: self._making.frames]
        words = self._tasks[task]
        made = sample(self._pipeline, self._making, words["prompt"], np.ascontiguousarray(shown[0]), seed)
        text = self._models.call("embed_text", words["key_frame"])
        features = self._models.call("embed_state", shown)
        return {
            "goal": self.encode(made),
            "still": self.encode(np.repeat(shown[:1], WINDOW, 0)),
            "true": self.encode(true),
            "features": features,
            "made_features": self._models.call("embed_state", made),
            "similarity": (self._models.call("embed_image", shown) @ text.T).mean(1),
            "psnr": np.float32(reconstruction_psnr(self._pipeline.vae, true)),
            "made": made,
        }


def _quietly(_: str) -> None:
    """Nobody waits for these notes."""


def measure(family: str, data: Path, out: Path, device: str = "auto") -> None:
    """Writes ``out/arrays.safetensors`` and ``out/episodes.json`` for all episodes of an evaluation set."""
    from safetensors.numpy import save_file
    from tqdm import tqdm

    try:
        rows = [json.loads(line) for line in (data / "metadata.jsonl").read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{data} is no evaluation set, its metadata.jsonl cannot be read: {error}") from error
    measurement, arrays = Measurement(family, device), {}
    for number, row in enumerate(tqdm(rows, desc=f"measuring {family}", mininterval=5)):
        frames, steps = read_frames(data / row["file_name"]), np.array(row["steps"])
        arrays[f"{number}/windows"] = measurement.episode(frames, steps)
        if row["behaviour"] == "expert":
            for key, value in measurement.expert(frames, steps, row["task"], row["seed"]).items():
                arrays[f"{number}/{key}"] = np.ascontiguousarray(value)
    out.mkdir(parents=True, exist_ok=True)
    save_file(arrays, out / "arrays.safetensors")
    (out / "episodes.json").write_text(json.dumps(rows) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Measures one family; the exit code is 2 where the user can mend what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m torch_bridge.measuring")
    parser.add_argument("--family", default="embedded")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args(argv)
    torch.set_num_threads(max(1, args.threads))
    try:
        measure(args.family, args.data, args.out, args.device)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
