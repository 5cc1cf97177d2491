"""The goal video's frames with the similarity of each to the task's words, and the one that was chosen (eq. 6)."""

import textwrap
from pathlib import Path

import numpy as np

from genreward_jax import windows
from genreward_jax.figures import style

SHOWN = 8  # frames in the strip under the curve


def key_frame_picture(
    path: str | Path, frames: np.ndarray, similarity: np.ndarray, chosen: int, prompt: str, note: str = ""
) -> None:
    """Draws the chosen frame large, the curve of all frames' similarity beside it, and a strip of frames below.

    Args:
        path: PNG to write.
        frames: uint8 (N, H, W, 3), the goal video.
        similarity: (N,) CLIP cosine of each frame with the text.
        chosen: Index of the key frame.
        prompt: The text; several are joined by the caller.
        note: What else the reader must know ("random weights", say).
    """
    if len(frames) != len(similarity) or not 0 <= chosen < len(frames):
        raise ValueError(f"{len(frames)} frames, {len(similarity)} similarities, and frame {chosen} chosen")
    shown = np.unique(windows.sample_indices(len(frames), min(SHOWN, len(frames))))
    figure = style.new_figure(11, 5.8)
    above, below = figure.subfigures(2, 1, height_ratios=(2.6, 1))
    left, right = above.subplots(1, 2, width_ratios=(1, 1.7))
    _picture(left, frames[chosen], f"key frame: {chosen + 1} of {len(frames)}", 12, True)
    _curve(right, similarity, chosen, shown)
    strip = below.subplots(1, len(shown), squeeze=False)[0]
    for axes, index in zip(strip, shown, strict=True):
        _picture(axes, frames[index], str(index + 1), 10, index == chosen)
    figure.suptitle("\n".join(textwrap.wrap(f"“{prompt}”", 90)), fontsize=13, color=style.INK)
    if note:
        figure.supxlabel(note, fontsize=10, color="#5a6470")
    style.save(figure, path)


def _curve(axes, similarity: np.ndarray, chosen: int, shown: np.ndarray) -> None:
    style.tidy(axes)
    numbers = np.arange(1, len(similarity) + 1)
    axes.plot(numbers, similarity, color=style.MARK, linewidth=2)
    axes.plot(shown + 1, similarity[shown], "o", color=style.MARK, markersize=4)
    axes.axvline(chosen + 1, color=style.SECOND, linewidth=1, linestyle=":")
    axes.plot(chosen + 1, similarity[chosen], "o", color=style.SECOND, markersize=10, zorder=3)
    axes.set_xlim(0.5, len(similarity) + 0.5)
    axes.set_xlabel("frame", fontsize=11)
    axes.set_ylabel("similarity to the text", fontsize=11)
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)


def _picture(axes, frame: np.ndarray, words: str, size: int, marked: bool) -> None:
    axes.imshow(frame, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(words, fontsize=size, color=style.SECOND if marked else style.INK)
    for spine in axes.spines.values():
        spine.set_color(style.SECOND if marked else style.FAINT)
        spine.set_linewidth(2.5 if marked else 0.8)
