"""A goal in one picture: the video, the frames that CLIP finds nearest to the text, and the curve (Figures 8 and A)."""

import textwrap
from pathlib import Path

import numpy as np

from genreward_jax import windows
from genreward_jax.figures import style

SHOWN = 9  # frames in the strip
BEST = 3  # frames shown large with their scores


def goal_picture(
    path: str | Path,
    frames: np.ndarray,
    similarity: np.ndarray,
    chosen: int,
    title: str,
    prompts: tuple[str, ...] = (),
    note: str = "",
    heading: str = "",
) -> None:
    """Draws the video as a strip, below it the best frames with their scores, and the similarity of all frames.

    Args:
        path: PNG to write.
        frames: uint8 (N, H, W, 3), the goal video.
        similarity: (N,) CLIP cosine of each frame with the text, averaged over prompts (eq. 6).
        chosen: Index of the key frame.
        title: What the video is to show.
        prompts: What CLIP compared with.
        note: What else the reader must know: where the video came from, say.
        heading: Above it all, in place of the title.
    """
    count = len(frames)
    if count != len(similarity) or not 0 <= chosen < count:
        raise ValueError(f"{count} frames, {len(similarity)} similarities, and frame {chosen} chosen")
    shown = np.unique(windows.sample_indices(count, min(SHOWN, count)))
    best = np.argsort(-similarity, kind="stable")[:BEST]
    if chosen not in best:  # the user asked for a later rank
        best[-1] = chosen
    shape = frames.shape[2] / frames.shape[1]  # width over height
    text = [f"similarity to: {' · '.join(prompts)}"] if prompts else []
    lines = [line for part in (*text, note) if part for line in textwrap.wrap(part, 150)]
    below_all = max(0.3, 0.18 * len(lines))
    figure = style.new_figure(13, 2.3 + below_all + 11.5 / (SHOWN * shape) + 8.2 / (BEST * shape))
    above, below, foot = figure.subfigures(
        3, 1, height_ratios=(0.35 + 11.5 / (SHOWN * shape), 0.8 + 8.2 / (BEST * shape), below_all)
    )
    strip = above.subplots(1, SHOWN, squeeze=False)[0]
    for axes in strip[len(shown) :]:
        axes.set_axis_off()
    for axes, index in zip(strip, shown, strict=False):
        _picture(axes, frames[index], str(index + 1), 11, index == chosen)
    left, right = below.subfigures(1, 2, width_ratios=(1.75, 1))
    large = left.subplots(1, BEST, squeeze=False)[0]
    for axes in large[len(best) :]:
        axes.set_axis_off()
    for rank, (axes, index) in enumerate(zip(large, best, strict=False), 1):
        name = f"key frame: {index + 1}" if index == chosen else f"{_ORDINAL[rank]}: frame {index + 1}"
        _picture(axes, frames[index], f"{name}\n{similarity[index]:.4f}", 12, index == chosen)
    _curve(right.subplots(), similarity, chosen, shown, best)
    figure.suptitle("\n".join(textwrap.wrap(heading or f"“{title}”", 95)), fontsize=15, color=style.INK)
    foot.text(0.5, 0.5, "\n".join(lines), fontsize=10, color=style.QUIET, ha="center", va="center")
    style.save(figure, path)


_ORDINAL = {1: "best", 2: "2nd", 3: "3rd"}


def _curve(axes, similarity: np.ndarray, chosen: int, shown: np.ndarray, best: np.ndarray) -> None:
    style.tidy(axes)
    numbers = np.arange(1, len(similarity) + 1)
    axes.plot(numbers, similarity, color=style.MARK, linewidth=2)
    axes.plot(shown + 1, similarity[shown], "o", color=style.MARK, markersize=4)
    axes.plot(best + 1, similarity[best], "o", color=style.SECOND, fillstyle="none", markersize=9, clip_on=False)
    axes.axvline(chosen + 1, color=style.SECOND, linewidth=1, linestyle=":")
    axes.plot(chosen + 1, similarity[chosen], "o", color=style.SECOND, markersize=9, zorder=3, clip_on=False)
    axes.set_xlim(0.5, len(similarity) + 0.5)
    axes.set_xlabel("frame", fontsize=11)
    axes.set_title("similarity to the text", fontsize=12, color=style.INK)
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)
    axes.locator_params(axis="y", nbins=6)


def _picture(axes, frame: np.ndarray, words: str, size: int, marked: bool) -> None:
    axes.imshow(frame, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(words, fontsize=size, color=style.SECOND if marked else style.INK)
    for spine in axes.spines.values():
        spine.set_color(style.SECOND if marked else style.FAINT)
        spine.set_linewidth(3 if marked else 0.8)
