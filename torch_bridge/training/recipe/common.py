"""What the parts of the recipe share: sizes, the videos held back, the untrained family that all begin with."""

from pathlib import Path

from genreward_jax.cache import make_once
from torch_bridge.training import rendered

SIZE = 64
FRAMES = 17  # of a goal video, one every 8 simulator steps: the 128 steps of one reward window


def split(videos: list[rendered.Video]) -> tuple[list[rendered.Video], list[rendered.Video]]:
    """Videos to train on, and those held back for validation: the last expert of each task and quality."""
    last = {}
    for video in videos:
        if video.row["behaviour"] == "expert":
            last[video.row["task"], video.row["quality"]] = video
    held = list(last.values())
    return [v for v in videos if not any(v is other for other in held)], held


def start(work: Path) -> Path:
    """The untrained family that all parts begin with."""
    from torch_bridge import embedded

    return make_once(work / "untrained", embedded.make)
