"""What FB thinks of each action in one state: F.B over two dimensions of the action, as in the paper's Figure 3."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from genreward_jax.figures import style

Values = Callable[[np.ndarray], np.ndarray]  # actions (N, A) to (N,), all in one state
NAMES = ("x", "y", "z", "gripper")  # of Meta-World's action
PAIRS = ((0, 1), (2, 3))
RESOLUTION = 31  # points along each side


def over_actions(values: Values, pair: tuple[int, int], rest: np.ndarray, resolution: int = RESOLUTION) -> np.ndarray:
    """Values of one state's actions along two dimensions, from -1 to 1 each.

    Args:
        values: Of actions (N, A) in that state, (N,).
        pair: Which two numbers of the action vary.
        rest: (A,): what the others are.
        resolution: Points along each side.

    Returns:
        float64 (resolution, resolution); the row is the second of the pair, the column the first.
    """
    line = np.linspace(-1, 1, resolution)
    first, second = np.meshgrid(line, line)
    actions = np.tile(np.asarray(rest, np.float32), (first.size, 1))
    actions[:, pair[0]], actions[:, pair[1]] = first.ravel(), second.ravel()
    return np.asarray(values(actions), np.float64).reshape(first.shape)


def pairs_of(numbers: int) -> list[tuple[int, int]]:
    """Those of :data:`PAIRS` that an action of so many numbers has; none where it has fewer than two."""
    return [pair for pair in PAIRS if max(pair) < numbers]


def actions_picture(
    path: str | Path,
    values: Values,
    action: np.ndarray,
    *,
    names: Sequence[str] = NAMES,
    frames: Sequence[tuple[str, np.ndarray]] = (),
    title: str = "F·B over actions",
    note: str = "",
) -> None:
    """Draws a heat map for each pair of :func:`pairs_of`, the action's other numbers as given; one scale for all.

    Args:
        path: PNG to write.
        values: Of actions (N, A) in the state that is asked about, (N,): r_FB, or any other value of an action.
        action: (A,) with A at least 2: the action marked with a cross, the expert's say.
        names: Of each number of the action.
        frames: (words, uint8 (H, W, 3)) shown to the left: the state's frame, the goal's.
        title, note: Above and below; each line of the note is wrapped.

    Raises:
        ValueError: The action has fewer than two numbers.
    """
    action = np.asarray(action, np.float32)
    if not (pairs := pairs_of(len(action))):
        raise ValueError(f"an action of {len(action)} numbers has no two to draw")
    grids = [over_actions(values, pair, action) for pair in pairs]
    low, high = min(grid.min() for grid in grids), max(grid.max() for grid in grids)
    width = 4.4 * len(pairs) + 2.6 * len(frames) + 0.8
    lines = ["ring: the best action of the slice; cross: the one taken", *note.splitlines()]
    across = int(11 * width)  # letters in a line of the note
    lines = [part for line in lines for part in textwrap.wrap(line, across)]
    figure = style.new_figure(width, 5.4 + 0.17 * max(0, len(lines) - 3))
    widths = [2.6] * len(frames) + [4.4] * len(pairs)
    panels = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    for axes, (words, frame) in zip(panels, frames, strict=False):
        axes.imshow(frame, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(words, fontsize=12, color=style.INK)
    maps = panels[len(frames) :]
    for axes, pair, grid in zip(maps, pairs, grids, strict=True):
        image = _heat_map(axes, grid, pair, action, names, (low, high if high > low else low + 1e-6))
    scale = figure.colorbar(image, ax=list(maps), shrink=0.8)
    scale.set_label("F·B, more is better", fontsize=11)
    scale.ax.tick_params(labelsize=10, color=style.FAINT)
    figure.suptitle(title, fontsize=14, color=style.INK)
    figure.supxlabel("\n".join(lines), fontsize=10, color=style.QUIET)
    style.save(figure, path)


def _heat_map(axes, grid, pair, action, names, limits):
    """One slice: the best action of it is ringed, the given one crossed."""
    image = axes.imshow(grid, origin="lower", extent=(-1, 1, -1, 1), cmap="cividis", vmin=limits[0], vmax=limits[1])
    line = np.linspace(-1, 1, len(grid))
    row, column = np.unravel_index(grid.argmax(), grid.shape)
    ring = dict(marker="o", markersize=13, fillstyle="none", clip_on=False)
    axes.plot(line[column], line[row], color=style.SECOND, markeredgewidth=2.6, **ring)
    for colour, thick in (("white", 5), (style.INK, 2)):  # to be seen on light and on dark
        cross = dict(marker="x", markersize=9, clip_on=False)
        axes.plot(action[pair[0]], action[pair[1]], color=colour, markeredgewidth=thick, **cross)
    axes.set_xlabel(names[pair[0]], fontsize=12)
    axes.set_ylabel(names[pair[1]], fontsize=12)
    axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))  # the best is often in a corner: its ring is to leave the labels free
    axes.set_xticks([-1, 0, 1])
    axes.set_yticks([-1, 0, 1])
    axes.tick_params(labelsize=10, color=style.FAINT)
    others = [f"{names[i]} {action[i]:+.1f}" for i in range(len(action)) if i not in pair]
    axes.set_title(f"the others as taken: {', '.join(others)}" if others else "", fontsize=10, color=style.QUIET)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image
