"""Counts what a family's video encoder computes for one window: for ``make bench``, which imports no torch.

python -m torch_bridge.operations --family embedded --frames 16
"""

import argparse
import json

import numpy as np


def count(family: str, frames: int) -> dict[str, float]:
    """Floating point operations of encoding one window of that many frames, and the bytes of the encoder's weights."""
    from torch.utils.flop_counter import FlopCounterMode

    from torch_bridge.models import ModelSet

    models = ModelSet(family, ("encode_video",), device="cpu")
    size, encoder = models.family.frame_size, models.models["vae"].model
    for module in encoder.modules():
        vars(module).pop("_conv_forward", None)  # oneDNN's own call, which the counter does not know
    with FlopCounterMode(display=False) as counter:
        models.call("encode_video", np.zeros((1, frames, size, size, 3), np.uint8))
    weights = sum(parameter.numel() * parameter.element_size() for parameter in encoder.parameters())
    return {"flops": float(counter.get_total_flops()), "bytes": float(weights)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--family", required=True)
    parser.add_argument("--frames", type=int, required=True)
    print(json.dumps(count(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
