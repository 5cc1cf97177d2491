"""Learning curves: return and success against environment steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax.figures import style

SMALLEST_SPAN = 10.0  # of the return axis: one step at Meta-World's full reward. Less than that is drawn flat.


def learning_curve(path: str | Path, rows: Sequence[dict[str, Any]], title: str = "", caption: str = "") -> None:
    """Draws evaluations boldly and training episodes faintly, returns above and success below.

    Args:
        path: PNG to write.
        rows: Each with ``step`` (environment steps), ``score`` (the environment's own dense return), ``success``
            (0 to 1) and ``kind`` ('eval' or 'episode'); of any order.
        title: Task and method, say.
        caption: What else one must know to read it: seed, preset. The number of steps is added.

    Raises:
        ValueError: No rows.
    """
    if not rows:
        raise ValueError("a learning curve needs at least one score")
    evals, episodes = _columns(rows, "eval"), _columns(rows, "episode")
    last = max(float(row["step"]) for row in rows)
    figure = style.new_figure(8, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.8, 1))
    _draw(upper, evals, episodes, "score")
    upper.set_ylabel("return (dense reward)", fontsize=11)
    upper.set_ylim(*limits([row["score"] for row in rows]))
    _draw(lower, evals, episodes, "success")
    lower.set_ylabel("success", fontsize=11)
    lower.set_ylim(-0.05, 1.08)
    lower.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    lower.set_xlabel("environment steps", fontsize=11)
    width = max(last, 100.0)  # a first evaluation alone is at step 0
    lower.set_xlim(-0.02 * width, 1.02 * width)
    lower.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    upper.set_title(title, fontsize=13, loc="left", color=style.INK)
    if evals["step"].size + episodes["step"].size:
        upper.legend(fontsize=10, frameon=False, loc="best")
    count = evals["step"].size
    notes = [caption, f"{last:,.0f} environment steps", f"{count} evaluation{'' if count == 1 else 's'}"]
    figure.supxlabel(", ".join(filter(None, notes)), fontsize=10, color="#5a6470", x=0.99, ha="right")
    style.save(figure, path)


def limits(values: Sequence[float]) -> tuple[float, float]:
    """Limits of a return axis: from the data, with 0 in sight and no narrower than :data:`SMALLEST_SPAN`."""
    finite = [float(v) for v in values if np.isfinite(v)] or [0.0]
    low, high = min(0.0, *finite), max(0.0, *finite)
    high = max(high, low + SMALLEST_SPAN)
    return low - 0.05 * (high - low), high + 0.08 * (high - low)


def running_mean(values: np.ndarray, count: int) -> np.ndarray:
    """Mean of each value and up to ``count - 1`` values before it, (N,) to (N,)."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - count, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _columns(rows: Sequence[dict[str, Any]], kind: str) -> dict[str, np.ndarray]:
    chosen = sorted((row for row in rows if row["kind"] == kind), key=lambda row: row["step"])
    return {key: np.array([row[key] for row in chosen], np.float64) for key in ("step", "score", "success")}


def _draw(axes, evals: dict[str, np.ndarray], episodes: dict[str, np.ndarray], key: str) -> None:
    style.tidy(axes)
    if episodes["step"].size:
        if key == "score":
            axes.plot(
                episodes["step"], episodes[key], ".", color=style.FAINT, alpha=0.5, markersize=5, label="training"
            )
        count = max(1, min(10, episodes["step"].size // 4))
        words = f"training, mean of {count}" if count > 1 else None
        axes.plot(episodes["step"], running_mean(episodes[key], count), color=style.FAINT, linewidth=1.4, label=words)
    if evals["step"].size:
        axes.plot(
            evals["step"],
            evals[key],
            "o-",
            color=style.MARK,
            linewidth=2.4,
            markersize=6,
            label="evaluation",
            clip_on=False,
            zorder=3,
        )
