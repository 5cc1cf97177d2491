"""``convert-s3d``: becomes the converting process, which imports torch; this package does not."""

import os
import sys


def run(argv: list[str]) -> int:
    """Replaces this process, so that the exit code is the conversion's own."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "torch_bridge.s3d", *argv])
