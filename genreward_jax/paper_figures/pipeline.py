"""Figure 2: what happens in a run, as a diagram."""

from pathlib import Path
from typing import Any

from genreward_jax.figures import style
from genreward_jax.paper_figures import sheet
from genreward_jax.paper_figures.plan import Figure

BLUE, ORANGE, GREY, WHITE = "#e4edf8", "#fbe9dc", "#eef0f3", "#ffffff"

# name: (x and y of the middle, width, height, words, colour); the sheet is 100 wide and 58 high.
BOXES = {
    "text": (9, 50, 15, 8, "the task in words,\nits first frame", WHITE),
    "generator": (30, 50, 17, 8, "video model\n(CogVideoX, fine-tuned)", GREY),
    "goal": (51, 50, 14, 8, "goal video", BLUE),
    "clip": (51, 37, 14, 7, "CLIP: key frame I*\n(eq. 6)", BLUE),
    "dino": (51, 25.5, 14, 7, "DINOv3: ψ(I*)", ORANGE),
    "vae": (73, 50, 15, 8, "3D VAE: z_goal\n(eq. 4)", BLUE),
    "window": (73, 37, 15, 7, "3D VAE: z of 16 frames\nof the last 128 (eq. 3)", BLUE),
    "cos": (91.5, 43.5, 14, 8, "r_video: their cosine\n(eq. 5)", BLUE),
    "fb": (73, 25.5, 15, 7, "F(s, a, z) · B(ψ(I*))\n(eq. 7, 8)", ORANGE),
    "rfb": (91.5, 25.5, 14, 7, "r_FB (eq. 9)", ORANGE),
    "env": (9, 8, 15, 9, "environment\n(Meta-World)", WHITE),
    "agent": (40, 8, 24, 9, "DreamerV3: world model,\nactor and critic", GREY),
    "sum": (76, 8, 34, 9, "r_gen = α r_video + β r_FB + r_env\n(eq. 10), into the replay", WHITE),
}
# from, side, to, side, words, colour
ARROWS = (
    ("text", "right", "generator", "left", "", style.QUIET),
    ("generator", "right", "goal", "left", "", style.QUIET),
    ("goal", "right", "vae", "left", "", style.MARK),
    ("goal", "bottom", "clip", "top", "", style.MARK),
    ("clip", "bottom", "dino", "top", "", style.SECOND),
    ("dino", "right", "fb", "left", "", style.SECOND),
    ("vae", "right", "cos", "left", "", style.MARK),
    ("window", "right", "cos", "left", "", style.MARK),
    ("fb", "right", "rfb", "left", "", style.SECOND),
    ("sum", "left", "agent", "right", "batches", style.QUIET),
)


def write(figure: Figure, stem: Path) -> list[Path]:
    """The diagram as PNG and PDF."""
    note = (
        "Blue: the video reward, paid every 128 steps in the torch process, off the critical path. Orange: the "
        "forward-backward reward, inside the agent, whose networks learn beside the world model. The numbers of "
        "equations are the paper's; where ours differs: docs/fidelity.md."
    )
    picture, part = sheet.new(12.5, 7.0, f"Figure {figure.name}: {figure.title}", [note])
    axes = part.subplots()
    axes.set_axis_off()
    axes.set(xlim=(0, 103), ylim=(-2.5, 56))
    for box in BOXES.values():
        _box(axes, *box)
    for start, side, end, other, words, colour in ARROWS:
        _arrow(axes, [_side(start, side), _side(end, other)], colour, words)
    _loop(axes)
    return sheet.save(picture, stem)


def _loop(axes: Any) -> None:
    """What goes round: actions, what the environment shows, and the rewards on their way down."""
    _arrow(axes, [_at("agent", -12, -2), _at("env", 7.5, -2)], style.QUIET, "action a", below=True)
    _arrow(axes, [_at("env", 7.5, 2), _at("agent", -12, 2)], style.QUIET, "image o")
    seen = [_at("env", -4, 4.5), (5, 31.2), (73, 31.2), _at("window", 0, -3.5)]
    _arrow(axes, seen, style.MARK, "frames o, as large as the encoder wants them", at=(6, 31.8))
    state = [_at("agent", 4, 4.5), (44, 17.5), (73, 17.5), _at("fb", 0, -3.5)]
    _arrow(axes, state, style.SECOND, "state s and action a of the step", at=(45, 18.6))
    down = [_at("cos", 7, 0), (101, 43.5), (101, 8), _at("sum", 17, 0)]
    _arrow(axes, down, style.MARK, "α", at=(101.5, 16.6))
    _arrow(axes, [_at("rfb", -4, -3.5), _at("sum", 11.5, 4.5)], style.SECOND, "β", at=(88.2, 16.6))
    reward = [_at("env", 0, -4.5), (9, -1), (76, -1), _at("sum", 0, -4.5)]
    _arrow(axes, reward, style.QUIET, "r_env: dense, sparse or none", at=(33, -0.6))


def _box(axes: Any, x: float, y: float, width: float, height: float, words: str, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    corner = (x - width / 2, y - height / 2)
    shape = FancyBboxPatch(
        corner, width, height, boxstyle="round,pad=0,rounding_size=1", facecolor=colour, edgecolor=style.FAINT
    )
    axes.add_patch(shape)
    axes.text(x, y, words, ha="center", va="center", fontsize=10.5, color=style.INK, linespacing=1.3)


def _at(name: str, right: float, up: float) -> tuple[float, float]:
    x, y = BOXES[name][:2]
    return x + right, y + up


def _side(name: str, side: str) -> tuple[float, float]:
    x, y, width, height = BOXES[name][:4]
    right, up = {"left": (-1, 0), "right": (1, 0), "top": (0, 1), "bottom": (0, -1)}[side]
    return x + right * width / 2, y + up * height / 2


def _arrow(
    axes: Any,
    points: list[tuple[float, float]],
    colour: str,
    words: str = "",
    at: tuple[float, float] | None = None,
    below: bool = False,
) -> None:
    """A line through points with a head at its end; words beside it, or above its middle."""
    *way, last, end = points
    if way:
        axes.plot(*zip(*way, last, strict=True), color=colour, linewidth=1.5, solid_joinstyle="round")
    axes.annotate("", end, last, arrowprops=dict(arrowstyle="-|>", color=colour, linewidth=1.5, shrinkA=0, shrinkB=0))
    if words:
        x, y = at or ((points[0][0] + end[0]) / 2, (points[0][1] + end[1]) / 2 + (-1.9 if below else 0.6))
        axes.text(x, y, words, fontsize=9.5, color=colour, ha="left" if at else "center", va="bottom")
