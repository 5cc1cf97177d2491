"""Figure 1 and Table 1: reward models and their properties, as the registry declares them."""

from pathlib import Path
from typing import Any

from genreward_jax.config import read_yaml
from genreward_jax.errors import UserError
from genreward_jax.figures import style
from genreward_jax.paper_figures import sheet
from genreward_jax.paper_figures.plan import Figure

NAMES = {
    "roboclip": "RoboCLIP",
    "vlm_rm": "VLM-RMs",
    "liv": "LIV",
    "viper": "VIPER",
    "diffusion_reward": "Diffusion Reward",
    "tadpole": "TADPoLe",
    "tadpole_video": "TADPoLe (video)",
    "genreward": "GenReward",
    "genreward_plus": "ours",
}
COLUMNS = {
    "expert_free": "demo free?",
    "generative": "generative?",
    "action_aware": "action-aware?",
    "goal": "goal",
    "model": "model",
    "source": "source",
}
NOTE = (
    "From the properties that each method declares in configs/methods.yaml. Demo free: no expert's video of the task; "
    "generative: the reward is a generative model's; action-aware: the action goes into the reward."
)


def rows(methods: dict[str, Any]) -> list[list[str]]:
    """A row for each method that declares its properties: its name in words, its name in METHOD=, and each column.

    Raises:
        UserError: None does.
    """
    found = []
    order = [*NAMES, *(name for name in methods if name not in NAMES)]
    for name in order:
        properties = (methods.get(name) or {}).get("properties")
        if properties:
            found.append([NAMES.get(name, name), name, *(_word(properties.get(column)) for column in COLUMNS)])
    if not found:
        raise UserError("Figure 1: no method in configs/methods.yaml declares its `properties`.")
    return found


def _word(value: Any) -> str:
    if isinstance(value, bool):  # a bare yes of YAML 1.1
        return "yes" if value else "no"
    return "" if value is None else str(value)


def markdown(table: list[list[str]]) -> str:
    """The table for a document."""
    heads = ["method", "`METHOD=`", *COLUMNS.values()]
    lines = [heads, ["---"] * len(heads), *([row[0], f"`{row[1]}`", *row[2:]] for row in table)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def write(figure: Figure, stem: Path) -> list[Path]:
    """Picture, CSV and markdown."""
    table = rows(read_yaml("methods"))
    files = sheet.save(_picture(figure, table), stem)
    files.append(sheet.write_csv(stem, ("method", "name", *COLUMNS), table))
    files.append(sheet.write(stem, ".md", markdown(table)))
    return files


def _picture(figure: Figure, table: list[list[str]]) -> Any:
    cells = [[row[0], *row[2:]] for row in table]
    heads = ["", *COLUMNS.values()]
    letters = [max(len(row[i]) for row in [heads, *cells]) + 3 for i in range(len(heads))]
    width = max(9.0, 0.085 * sum(letters))
    picture, part = sheet.new(width, 0.75 + 0.33 * (len(cells) + 1), f"Figure {figure.name}: {figure.title}", [NOTE])
    axes = part.subplots()
    axes.set_axis_off()
    axes.set(xlim=(0, sum(letters)), ylim=(len(cells) + 0.6, -0.6))
    starts = [sum(letters[:i]) for i in range(len(letters))]
    for start, head in zip(starts, heads, strict=True):
        axes.text(start, 0, head, fontsize=11, color=style.QUIET, va="center")
    axes.axhline(0.5, color=style.QUIET, linewidth=1)
    for number, row in enumerate(cells, 1):
        for start, cell in zip(starts, row, strict=True):
            _cell(axes, start, number, cell, own=row[0] in ("GenReward", "ours"))
        axes.axhline(number + 0.5, color="#e6e9ed", linewidth=0.8)
    return picture


def _cell(axes: Any, x: float, y: float, words: str, own: bool) -> None:
    marks = {"yes": ("✓", style.MARK), "no": ("–", style.FAINT)}
    if words in marks:
        sign, colour = marks[words]
        axes.text(x + 4, y, sign, fontsize=14, color=colour, va="center", ha="center")
    else:
        weight = "bold" if own and x == 0 else "normal"
        axes.text(x, y, words, fontsize=11, color=style.INK, va="center", fontweight=weight)
