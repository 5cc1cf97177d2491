"""One look for all figures, and saving them whole."""

import os
import tempfile
from pathlib import Path

INK, QUIET, FAINT, MARK, SECOND = "#1e1e1e", "#5a6470", "#9aa4b0", "#2d69af", "#c8641e"


def new_figure(width: float, height: float):
    """A matplotlib figure of that many inches, drawn without a screen and without pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes) -> None:
    """Takes off what carries no number."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=10, color=FAINT)
    axes.grid(axis="y", color="#e6e9ed", linewidth=0.8)
    axes.set_axisbelow(True)


def save(figure, path: str | Path) -> None:
    """Writes a PNG, or a PDF where the name ends so; it appears under its name only when it is complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(suffix=path.suffix, prefix=f".{path.stem}-", dir=path.parent)
    os.close(handle)
    try:
        figure.savefig(part, dpi=120, metadata={"CreationDate": None} if path.suffix == ".pdf" else None)
        os.chmod(part, 0o644)
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)
