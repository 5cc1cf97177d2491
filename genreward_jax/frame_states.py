"""DINOv3 embeddings of replay frames: asked of the bridge off the critical path, kept in the rows, read by FB."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import elements
import numpy as np

from genreward_jax.goals import FEATURES
from genreward_jax.video import fit

# float32 (384,), zeros where there is none; and whether there is one.
SPACES = {"dino": elements.Space(np.float32, FEATURES), "dino_valid": elements.Space(bool)}


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


def annotator(call: Callable[[str, np.ndarray], Future], every: int) -> Callable[[dict, int], dict[str, Any]]:
    """The ``annotate`` of a :class:`genreward_jax.shaping.RewardShaper`: embeds every ``every``-th row's ``image``.

    Args:
        call: ``call("embed_state", uint8 (1, H, W, 3))`` gives a future float32 (1, 384), as the bridge does.
        every: From :func:`every`, 1 or more; an episode's reset is counted as step 0 and embedded.
    """
    nothing = np.zeros(FEATURES, np.float32)

    def annotate(row: Mapping[str, np.ndarray], step: int) -> dict[str, Any]:
        if step % every:
            return {"dino": nothing, "dino_valid": np.bool_(False)}
        return {"dino": _first(call("embed_state", row["image"][None])), "dino_valid": np.bool_(True)}

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


def psi_like_rows(goal: Any, call: Callable[[str, np.ndarray], Future], size: int) -> np.ndarray:
    """psi(I*) of the key frame at the size of the agent's images, so that goal and rows are equally sharp.

    Args:
        goal: A :class:`genreward_jax.goals.Goal`.
        call: As in :func:`annotator`.
        size: Side of the agent's images in pixels.

    Returns:
        float32 (384,).
    """
    if goal.key_frame.shape[:2] == (size, size):
        return goal.psi
    return np.array(call("embed_state", fit(goal.key_frame[None], size)).result()[0], np.float32)
