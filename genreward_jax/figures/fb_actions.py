"""What FB thinks of each action in one state: F.B over two dimensions of the action, as in the paper's Figure 3."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from genreward_jax.figures import style

Values = Callable[[np.ndarray, np.ndarray], np.ndarray]
NAMES = ("x", "y", "z", "gripper")  # of Meta-World's action
PAIRS = ((0, 1), (2, 3))
RESOLUTION = 31  # points along each side


def over_actions(
    values: Values, state: np.ndarray, pair: tuple[int, int], rest: np.ndarray, resolution: int = RESOLUTION
) -> np.ndarray:
    """Values of one state's actions along two dimensions, from -1 to 1 each.

    Args:
        values: (states (N, n), actions (N, A)) to (N,).
        state: (n,).
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
    states = np.broadcast_to(np.asarray(state, np.float32), (first.size, len(state)))
    return np.asarray(values(states, actions), np.float64).reshape(first.shape)


def actions_picture(
    path: str | Path,
    values: Values,
    state: np.ndarray,
    action: np.ndarray,
    *,
    pairs: Sequence[tuple[int, int]] = PAIRS,
    names: Sequence[str] = NAMES,
    frames: Sequence[tuple[str, np.ndarray]] = (),
    title: str = "F·B over actions",
    note: str = "",
) -> None:
    """Draws a heat map for each pair of action dimensions, the others as in ``action``; one scale for all.

    Args:
        path: PNG to write.
        values: (states (N, n), actions (N, A)) to (N,): r_FB, or any other value of an action.
        state: (n,): the state asked about.
        action: (A,): the action marked with a cross, the expert's say.
        pairs: Of numbers of the action.
        names: Of each number of the action.
        frames: (words, uint8 (H, W, 3)) shown to the left: the state's frame, the goal's.
        title, note: Above and below.
    """
    action = np.asarray(action, np.float32)
    grids = [over_actions(values, state, pair, action) for pair in pairs]
    low, high = min(grid.min() for grid in grids), max(grid.max() for grid in grids)
    figure = style.new_figure(4.4 * len(pairs) + 2.6 * len(frames) + 0.8, 5.4)
    widths = [2.6] * len(frames) + [4.4] * len(pairs)
    panels = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    for axes, (words, frame) in zip(panels, frames, strict=False):
        axes.imshow(frame, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(words, fontsize=12, color=style.INK)
    maps = panels[len(frames) :]
    for axes, pair, grid in zip(maps, pairs, grids, strict=True):
        image = _heat_map(axes, grid, pair, action, names, (low, high if high > low else low + 1e-6))
    figure.colorbar(image, ax=list(maps), shrink=0.8).ax.tick_params(labelsize=10, color=style.FAINT)
    figure.suptitle(title, fontsize=14, color=style.INK)
    legend = "ring: the slice's best action; cross: the one taken"
    figure.supxlabel(f"{legend}. {note}" if note else legend, fontsize=10, color=style.QUIET)
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
    axes.set_xticks([-1, 0, 1])
    axes.set_yticks([-1, 0, 1])
    axes.tick_params(labelsize=10, color=style.FAINT)
    others = [f"{names[i]} {action[i]:+.1f}" for i in range(len(action)) if i not in pair]
    axes.set_title(f"the others as taken: {', '.join(others)}" if others else "", fontsize=10, color=style.QUIET)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image
