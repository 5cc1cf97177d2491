"""``finetune``: becomes the training process, which imports torch; this package does not."""

import os
import sys


def run(argv: list[str]) -> int:
    """Replaces this process, so that signals and the exit code are the training's own."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "torch_bridge.training.finetune", *argv])
