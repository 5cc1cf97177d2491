"""What the bridge's tests share: the small random family, windows, and one bridge a file."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # user_rewards.py, here and in the bridge processes


@pytest.fixture(scope="session")
def family() -> Path:
    """The embedded family's folder."""
    from torch_bridge import families

    return families.resolve("embedded").folder


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def make_window(rng):
    """Returns a function that makes a window of 16 random frames."""
    from genreward_jax.rewards.base import Window

    def make(step: int = 128, size: int = 64) -> Window:
        frames = rng.integers(0, 256, (16, size, size, 3), dtype=np.uint8)
        return Window(frames, np.zeros((128, 4), np.float32), np.zeros(128, np.float32), {}, False, step)

    return make
