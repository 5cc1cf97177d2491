"""A goal: the video, the frame that CLIP finds nearest to the task's text (eq. 6), and its DINOv3 features psi(I*)."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax.cache import make_once
from genreward_jax.errors import UserError
from genreward_jax.windows import sample_indices

FEATURES = 384  # numbers in psi(I*): Table A, observation dimension
_FORMAT = 1  # counts up when what a cached goal means changes
_CHUNK = 32  # frames in one CLIP call


@dataclass
class Goal:
    """What the generative rewards aim at.

    Attributes:
        frames: uint8, (count, S, S, 3): sampled uniformly from the video, for the video encoder (eq. 4).
        video: uint8, (N, S, S, 3): the whole video, to look at; read from the mp4 where a goal was loaded.
        fps: Frames a second of the video.
        prompts: The task in words.
        source: Where the video came from, in words.
        key_index: Frame number of I* in the video.
        similarity: float32, (N,): each frame's cosine to the text, averaged over prompts (eq. 6).
        psi: float32, (384,): DINOv3's pooled output for I*.
        digest: Content key: video, prompts, size, rank and models (all that were loaded: the reward needs the video
            encoder too).
        key_frame: uint8, (H, W, 3): I* as it is in the source.
        rank: Which of the frames was taken, 1 the best.
        generated: Folder of the generated video that it was made of; '' for any other.
    """

    frames: np.ndarray
    video: np.ndarray
    fps: float
    prompts: tuple[str, ...]
    source: str
    key_index: int
    similarity: np.ndarray
    psi: np.ndarray
    digest: str
    key_frame: np.ndarray
    rank: int = 1
    generated: str = ""

    def save(self, folder: str | os.PathLike) -> None:
        """Writes goal.mp4, key_frame.png, similarity.png, goal.json and goal.safetensors; the folder appears whole.

        A generated video is kept as it was made in ``generated``, so that what goes on from here needs no model to
        make it again.
        """
        from genreward_jax.video import write_video

        def fill(made: Path) -> None:
            self._save_data(made)
            _save_png(made / "key_frame.png", self.key_frame)
            write_video(made / "goal.mp4", self.video, self.fps)
            self.draw(made / "similarity.png", self.source)
            if self.generated:
                shutil.copytree(self.generated, made / "generated")

        _replace_folder(Path(folder), fill)

    def draw(self, path: str | os.PathLike, title: str, note: str = "") -> None:
        """The video, its best frames and the similarity of all in one picture."""
        from genreward_jax.figures.goal import goal_picture

        goal_picture(path, self.video, self.similarity, self.key_index, title, self.prompts, note)

    def _save_data(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in _TENSORS}
        save_file(tensors, folder / "goal.safetensors")
        facts = {
            "source": self.source,
            "prompts": list(self.prompts),
            "fps": self.fps,
            "frames_in_video": len(self.similarity),
            "key_index": self.key_index,
            "rank": self.rank,
            "digest": self.digest,
            "scores": [round(float(s), 6) for s in self.similarity],
        }
        (folder / "goal.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


_TENSORS = ("frames", "similarity", "psi", "key_frame")


def make_goal(
    source_frames: np.ndarray,
    fps: float,
    source_name: str,
    prompts: tuple[str, ...] | list[str],
    bridge: Any,
    size: int,
    frames: int = 16,
    rank: int = 1,
    cache_dir: str | os.PathLike | None = None,
    say: Callable[[str], None] = print,
) -> Goal:
    """Makes a goal out of a video, or finds it in the cache if the same was made before.

    Args:
        source_frames: uint8, (N, H, W, 3), of any size.
        fps: Frames a second.
        source_name: Where they come from, in words.
        prompts: The task in words, one sentence or several.
        bridge: Serves embed_image, embed_text and embed_state.
        size: Height and width at which the video encoder wants frames, in pixels.
        frames: How many of them are sampled (section 3.2).
        rank: 1 takes the best frame for I*, 2 the second best (appendix B).
        cache_dir: Folder of goals by content; None keeps nothing.
        say: Told when the video is too short to be sampled without repetition.

    Raises:
        UserError: No prompt, a rank that the video has no frame for, features that are not 384 numbers.
    """
    from genreward_jax.video import fit

    count, prompts = len(source_frames), tuple(prompts)
    if not prompts or not all(p.strip() for p in prompts):
        raise UserError("the goal has no text to choose its key frame by: give --goal.prompt a sentence")
    if not 1 <= rank <= count:
        raise UserError(f"--goal.rank {rank} is not among the {count} frames of the goal video: 1 is the best")
    if count < frames:
        say(f"The goal video has only {count} frame{'s' * (count > 1)}: some stand more than once among its {frames}.")
    video = fit(source_frames, size)

    def compute() -> Goal:
        similarity = text_similarity(bridge, source_frames, prompts)
        chosen = ranked(similarity, rank)
        key_frame = np.array(source_frames[chosen])
        psi = np.array(bridge.call("embed_state", key_frame[None]).result()[0], np.float32)  # psi(I*)
        if psi.shape != (FEATURES,):
            raise UserError(f"the image model gives {psi.size} numbers a frame where {FEATURES} are needed (ViT-S/16+)")
        sampled = video[sample_indices(count, frames)]
        return Goal(sampled, video, fps, prompts, source_name, chosen, similarity, psi, digest, key_frame, rank)

    digest = _digest(source_frames, prompts, bridge.describe(), (size, frames, rank))
    if cache_dir is None:
        return compute()
    folder = make_once(Path(cache_dir) / digest, lambda made: compute()._save_data(made))
    goal = _load_data(folder, video)
    goal.source, goal.fps = source_name, fps  # the same content may have come from elsewhere
    return goal


def load_goal(folder: str | os.PathLike) -> Goal:
    """Reads what :meth:`Goal.save` wrote; ``video`` comes from the mp4, all else as it was.

    Raises:
        UserError: The folder holds no goal.
    """
    from genreward_jax.video import read_video

    folder = Path(folder)
    if not (folder / "goal.json").is_file() or not (folder / "goal.safetensors").is_file():
        raise UserError(f"{folder} holds no goal (goal.json and goal.safetensors)")
    video, _ = read_video(folder / "goal.mp4")
    try:
        return _load_data(folder, video)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / 'goal.json'} is damaged ({error!r}): take the folder away.") from None


def text_similarity(bridge: Any, frames: np.ndarray, prompts: tuple[str, ...]) -> np.ndarray:
    """Cosine of each frame's CLIP embedding to the text's, averaged over prompts (eq. 6).

    Args:
        bridge: Serves embed_image and embed_text, which give unit vectors.
        frames: uint8, (N, H, W, 3).
        prompts: P sentences.

    Returns:
        float32, (N,).
    """
    text = bridge.call("embed_text", list(prompts))
    chunks = [bridge.call("embed_image", frames[i : i + _CHUNK]) for i in range(0, len(frames), _CHUNK)]
    images = np.concatenate([chunk.result() for chunk in chunks]).astype(np.float64)  # (N, D)
    return (images @ text.result().astype(np.float64).T).mean(1).astype(np.float32)  # (N, P) to (N,)


def ranked(similarity: np.ndarray, rank: int) -> int:
    """Index of the ``rank``-th highest score, the earlier frame first where two are equal; rank 1 is the arg max."""
    return int(np.argsort(-similarity, kind="stable")[rank - 1])


def _digest(frames: np.ndarray, prompts: tuple[str, ...], models: dict, numbers: tuple[int, ...]) -> str:
    sha = hashlib.sha256(np.ascontiguousarray(frames).tobytes())
    used = sorted(models["digests"].items())
    sha.update(repr((_FORMAT, frames.shape, prompts, used, models["dtype"], numbers)).encode())
    return sha.hexdigest()[:24]


def _load_data(folder: Path, video: np.ndarray) -> Goal:
    from safetensors.numpy import load_file

    facts = json.loads((folder / "goal.json").read_text())
    return Goal(
        video=video,
        fps=float(facts["fps"]),
        prompts=tuple(facts["prompts"]),
        source=facts["source"],
        key_index=int(facts["key_index"]),
        digest=facts["digest"],
        rank=int(facts["rank"]),
        **load_file(folder / "goal.safetensors"),
    )


def _save_png(path: Path, frame: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(frame).save(path)


def _replace_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fills a folder beside ``folder`` and puts it in its place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        made.chmod(0o755)
        fill(made)
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
