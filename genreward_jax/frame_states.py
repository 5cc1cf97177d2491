"""DINOv3 embeddings of replay frames: asked of the bridge off the critical path, kept in the rows, read by FB."""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import elements
import numpy as np

from genreward_jax.goals import FEATURES
from genreward_jax.video import fit
from genreward_jax.windows import sample_indices

KEYS = ("dino", "dino_valid")  # of a row: the embedding, zeros where there is none; whether there is one
GOAL_FRAMES = 18  # of the goal's end: as many of each video, whether there are one, two, three, six or nine
END = 0.15  # share of a goal video that is its end, where nothing says when the task was done


def numbers(fb: Mapping[str, Any]) -> int:
    """How many numbers an embedding has; ``fb`` is the resolved section."""
    return FEATURES * (4 if fb["dino"] == "regions" else 1)


def capability(fb: Mapping[str, Any]) -> str:
    """What of the bridge's makes them."""
    return "embed_regions" if fb["dino"] == "regions" else "embed_state"


def spaces(fb: Mapping[str, Any]) -> dict[str, elements.Space]:
    """Of :data:`KEYS`: float32 (numbers,), and bool."""
    return dict(zip(KEYS, (elements.Space(np.float32, numbers(fb)), elements.Space(bool)), strict=True))


def every(fb: Mapping[str, Any], platform: str) -> int:
    """Every how many rows of an episode are embedded; 0 where FB reads no embedding.

    Args:
        fb: The ``fb`` section, resolved.
        platform: JAX's: ``dino_every`` 0 stands for 1 on 'cuda' and 8 elsewhere.
    """
    if "dino" not in (fb["forward_state"], fb["backward_state"]):
        return 0
    if fb["forward_state"] == "dino":  # F is asked about two neighbouring rows
        return 1
    return int(fb["dino_every"]) or (1 if platform == "cuda" else 8)


def annotator(
    call: Callable[[str, np.ndarray], Future], every: int, fb: Mapping[str, Any]
) -> Callable[[dict, int], dict[str, Any]]:
    """The ``annotate`` of a :class:`genreward_jax.shaping.RewardShaper`: embeds every ``every``-th row's ``image``.

    Args:
        call: ``call(capability, uint8 (1, H, W, 3))`` gives a future float32 (1, numbers), as the bridge does.
        every: From :func:`every`, 1 or more; an episode's reset is counted as step 0 and embedded.
        fb: The ``fb`` section, resolved.
    """
    name, nothing = capability(fb), np.zeros(numbers(fb), np.float32)

    def annotate(row: Mapping[str, np.ndarray], step: int) -> dict[str, Any]:
        if step % every:
            return {"dino": nothing, "dino_valid": np.bool_(False)}
        return {"dino": _first(call(name, row["image"][None])), "dino_valid": np.bool_(True)}

    return annotate


def _first(answer: Future) -> Future:
    """The first entry of what a future will hold, as a future of its own; a failure is passed on."""
    result: Future = Future()

    def done(answer: Future) -> None:
        if error := answer.exception():
            result.set_exception(error)
        else:
            result.set_result(np.array(answer.result()[0], np.float32))  # a copy: the bridge's memory goes back

    answer.add_done_callback(done)
    return result


def goal_states(
    goal: Any, ends: Sequence[np.ndarray], call: Callable[[str, np.ndarray], Future], fb: Mapping[str, Any], size: int
) -> np.ndarray:
    """What B is told of the goal.

    Beside tokens and deter that is psi(I*), as the paper has it. Embeddings of frames are compared with those of the
    goal's own, made at the size of the agent's images, so that goal and rows are equally sharp.

    Args:
        goal: A :class:`genreward_jax.goals.Goal`.
        ends: Ends of videos of the goal, uint8 (N, H, W, 3) each, read with ``goal`` end; none is the goal's own.
        call: As in :func:`annotator`.
        fb: The ``fb`` section, resolved.
        size: Side of the agent's images in pixels.

    Returns:
        float32 (384,); where B sees embeddings (1, numbers) with ``goal`` key, (18, numbers) with end.
    """
    if fb["backward_state"] != "dino":
        return goal.psi
    frames = goal.key_frame[None] if fb["goal"] == "key" else end_frames(ends or [own_end(goal.video)], size)
    return np.array(call(capability(fb), fit(frames, size)).result(), np.float32)


def own_end(video: np.ndarray) -> np.ndarray:
    """The last frames of a video of which nothing says when the task was done."""
    return video[-max(1, math.ceil(END * len(video))) :]


def end_frames(ends: Sequence[np.ndarray], size: int) -> np.ndarray:
    """18 frames, as many of each end, uint8 (18, size, size, 3).

    A single frame is a single pose of the arm; what many ends have in common is the task done.
    """
    ends = ends[:GOAL_FRAMES]
    each = [len(part) for part in np.array_split(np.arange(GOAL_FRAMES), len(ends))]
    chosen = [end[sample_indices(len(end), count)] for end, count in zip(ends, each, strict=True)]
    return np.concatenate([fit(frames, size) for frames in chosen])
