"""Makes one goal video: a first frame and a sentence in, frames out. A process of its own, so its memory goes with it.

    python -m torch_bridge.generate FOLDER [PARENT]

FOLDER holds ``request.json`` and the first frame, as ``genreward_jax/generating.py`` writes them; ``frames.npy`` is put
beside them, or ``error.txt`` with one sentence (exit code 2). The progress bar goes to standard error. With the number
of its parent process it ends when that does.
"""

import json
import sys
import traceback
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genreward_jax.errors import UserError
from torch_bridge.families import Family, resolve
from torch_bridge.generation import Making
from torch_bridge.pipeline import load_pipeline
from torch_bridge.server import die_with


def generate(
    family: Family,
    made: Making,
    prompt: str,
    image: np.ndarray,
    seed: int,
    device: torch.device,
    offload: str = "none",
) -> np.ndarray:
    """One video that starts at an image and does what a sentence says (eq. 1, sampled).

    Args:
        image: uint8, (made.height, made.width, 3).
        seed: Of the noise, which is drawn on the CPU, so that it is the same on every device.

    Returns:
        uint8, (made.frames, made.height, made.width, 3).
    """
    return sample(load_pipeline(family, made, device, offload), made, prompt, image, seed)


def sample(pipeline: Any, made: Making, prompt: str, image: np.ndarray, seed: int) -> np.ndarray:
    """:func:`generate` with a pipeline that is loaded already.

    Raises:
        UserError: The numbers ran out of what the dtype can hold.
    """
    from PIL import Image

    pixels = pipeline(
        image=Image.fromarray(image),
        prompt=prompt,
        negative_prompt="",
        height=made.height,
        width=made.width,
        num_frames=made.frames,
        num_inference_steps=made.steps,
        guidance_scale=made.guidance,
        use_dynamic_cfg=made.large and made.guidance > 1,  # as CogVideoX's own scripts do with this sampler
        generator=torch.Generator("cpu").manual_seed(seed),
        max_sequence_length=made.max_text,
        output_type="np",
    ).frames[0]  # float32 (N, H, W, 3) in [0, 1]
    if not np.isfinite(pixels).all():
        raise UserError(
            f"the model gave no finite pixels in {made.dtype}: its weights are damaged, or too large for it"
        )
    return (pixels * 255).round().astype(np.uint8)


def run(folder: Path) -> None:
    """Does what ``folder/request.json`` asks and writes ``folder/frames.npy``."""
    from PIL import Image

    from torch_bridge.models import choose_device

    request = json.loads((folder / "request.json").read_text())
    device = choose_device(request["device"])
    made = Making(**{field.name: request[field.name] for field in fields(Making)})
    family = resolve(request["family"], request["revision"], generates=True)
    with Image.open(folder / request["image"]) as image:
        first = np.asarray(image.convert("RGB"))
    try:
        video = generate(family, made, request["prompt"], first, request["seed"], device, request["offload"])
    except torch.OutOfMemoryError as error:
        stronger = {"none": "model", "model": "sequential"}.get(request["offload"])
        mend = f"give --goal.offload {stronger}" if stronger else "use a GPU with more of it, or a smaller model"
        raise UserError(f"the GPU's memory is too small to generate with {family.name}: {mend}") from error
    np.save(folder / "frames.npy", video)


def main(argv: list[str] | None = None) -> int:
    """Runs one request; the exit code is 2 where the user can mend what went wrong."""
    folder, *parent = sys.argv[1:] if argv is None else argv
    folder = Path(folder)
    if parent:
        die_with(int(parent[0]))
    try:
        run(folder)
    except UserError as error:
        (folder / "error.txt").write_text(str(error))
        return 2
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
