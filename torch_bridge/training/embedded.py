"""The recipe of the embedded family: four parts, each trained from nothing on the rendered data set.

    python -m torch_bridge.training.embedded --part vae|transformer|clip|dino --data DIR --work DIR

``make models`` runs them all. Each part is resumable and leaves its model under ``WORK/embedded/<part>``, in the
library's own folder format; the part 'transformer' needs the part 'vae'. ``recipe/`` holds a file a part.
"""

import argparse
import importlib
import json
import os
import shutil
import sys
from pathlib import Path

import torch

from genreward_jax.errors import UserError
from torch_bridge.repairs import repair_torchvision
from torch_bridge.training.recipe.common import start

STEPS = {"vae": 2700, "transformer": 2200, "clip": 1600, "dino": 1500}


def assemble(work: Path) -> None:
    """Puts what is not trained beside the parts, and the manifest once all of them are there."""
    family, untrained = work / "embedded", start(work)
    for name in ("tokenizer", "scheduler"):
        shutil.copytree(untrained / name, family / name, dirs_exist_ok=True)
    shutil.copy(untrained / "model_index.json", family)
    if all(any((family / part).glob("*.safetensors")) for part in (*STEPS, "text_encoder")):
        manifest = json.loads((untrained / "family.json").read_text()) | {"name": "embedded", "trained": True}
        (family / "family.json").write_text(json.dumps(manifest, indent=2) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Trains one part; the exit code is 2 where the user can mend what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m torch_bridge.training.embedded")
    parser.add_argument("--part", required=True, choices=tuple(STEPS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=1.0, help="times the recipe's number of steps")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    repair_torchvision()
    try:
        recipe = importlib.import_module(f"torch_bridge.training.recipe.{args.part}")
        recipe.train(args.data, args.work, max(1, round(STEPS[args.part] * args.scale)))
        assemble(args.work)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
