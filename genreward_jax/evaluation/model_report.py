"""Tables, cards and pictures of what ``models-eval`` found."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax.errors import UserError
from genreward_jax.evaluation.models import WANTED, Expert

_ABOUT = {
    "psnr": "autoencoder: PSNR of reconstruction",
    "auc_random": "r_video, expert against random (AUC)",
    "auc_half": "r_video, expert against half-way expert (AUC)",
    "key_frame": "CLIP's key frame is late enough",
    "generated": "generated video ends nearer to success",
}
# The same with other goals, and baseline-corrected; `own`: each episode against the goal made from its own first frame.
_BESIDE = {
    "": "generated goal",
    "_corrected": "generated goal, baseline-corrected",
    "_other": "control: another task's generated goal",
    "_still": "control: the still first frame",
    "_true": "for comparison: a true expert video",
}
_CARDS = {
    "vae": ("psnr",),
    "transformer": ("generated", "auc_random", "auc_half"),
    "clip": ("key_frame",),
    "dino": ("generated",),
}
_BEGIN, _END = "<!-- figures: written by make models-eval -->", "<!-- end of figures -->"


def rows_of(names: tuple[str, ...] = tuple(WANTED)) -> list[tuple[str, str, str]]:
    """The table's rows: (key of a figure, what it is, how it is written)."""
    rows = []
    for name in names:
        form = WANTED[name][1]
        if not name.startswith("auc"):
            rows.append((name, _ABOUT[name], form))
            if name == "generated":
                rows.append(("generated_other", f"{_ABOUT[name]}: control: another task's video", form))
            continue
        for fixed, words in (("", "one goal for all seeds"), ("_own", "each seed's own goal")):
            for ending, beside in _BESIDE.items():
                rows.append((f"{name}{fixed}{ending}", f"{_ABOUT[name]}, {words}: {beside}", form))
    return rows


def markdown(made: dict[str, dict[str, Any]], names: tuple[str, ...] = tuple(WANTED)) -> str:
    """A table with a column for each group of tasks and family.

    Args:
        made: Family to groups to figures, as :func:`models.all_figures` gives them.
        names: Which figures.
    """
    columns = [(family, group) for group in next(iter(made.values())) for family in made]
    head = ["figure", "wanted", *(f"{group}, `{family}`" for family, group in columns)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for key, about, form in rows_of(names):
        wanted = f"≥ {form.format(WANTED[key][0])}" if key in WANTED else ""
        values = [_written(made[family][group].get(key), form) for family, group in columns]
        lines.append("| " + " | ".join([about, wanted, *values]) + " |")
    return "\n".join(lines) + "\n"


def _written(value: float | None, form: str) -> str:
    return "–" if value is None or np.isnan(value) else form.format(value)


def table(made: dict[str, dict[str, Any]]) -> str:
    """The main figures as plain text for a terminal, with a mark where the paper's tasks miss what is wanted."""
    lines = []
    for family, groups in made.items():
        lines.append(f"{family}")
        for group, figures in groups.items():
            lines.append(f"  {group} ({figures['videos']} seeds)")
            for key, about, form in rows_of():
                if key.endswith("_true"):
                    continue
                mark = ""
                if key in WANTED and group == "paper":
                    mark = verdict(key, figures)
                lines.append(f"    {about:<95} {_written(figures.get(key), form):>9}  {mark}")
    return "\n".join(lines)


def verdict(name: str, figures: dict[str, Any]) -> str:
    """Whether a figure is what is wanted: 'reached', 'BELOW ...', or 'NO BETTER than a control'."""
    wanted, form = WANTED[name]
    if figures[name] < wanted:
        return f"BELOW {form.format(wanted)}"
    controls = [figures[f"{name}{ending}"] for ending in ("_other", "_still") if f"{name}{ending}" in figures]
    return "reached" if all(figures[name] > control for control in controls) else "NO BETTER than a control"


def write_cards(family: str, made: dict[str, dict[str, Any]]) -> None:
    """Puts the figures between the marks of each model's README.md in the family's folder.

    Raises:
        UserError: No card there, or one without marks.
    """
    from torch_bridge.families import resolve

    folder = resolve(family).folder
    for part, names in {"": tuple(WANTED), **_CARDS}.items():
        card = folder / part / "README.md"
        text = card.read_text() if card.is_file() else ""
        if _BEGIN not in text or _END not in text:
            raise UserError(f"{card} has no place for figures: it needs the lines '{_BEGIN}' and '{_END}'.")
        pattern = re.escape(_BEGIN) + ".*?" + re.escape(_END)
        filled = f"{_BEGIN}\n\n{markdown(made, names)}\n{_END}"
        card.write_text(re.sub(pattern, lambda _, new=filled: new, text, flags=re.DOTALL))


def picture(path: Path, experts: list[Expert], columns: int = 9) -> None:
    """One strip of generated frames for the first seed of each task that is no training task."""
    from PIL import Image, ImageDraw

    from genreward_jax.demonstrations import split

    chosen: dict[str, Expert] = {}
    for expert in experts:
        if expert.task not in split.tasks_of("training") and expert.quality == "fast":
            chosen.setdefault(expert.task, expert)
    if not chosen:
        return
    scale, strips = 2, []
    for task, expert in chosen.items():
        picked = np.linspace(0, len(expert.made) - 1, columns).round().astype(int)
        strip = np.concatenate(list(expert.made[picked]), axis=1).repeat(scale, 0).repeat(scale, 1)
        strips.append((task, strip))
    height, width, label = strips[0][1].shape[0], strips[0][1].shape[1], 16
    sheet = Image.new("RGB", (width, len(strips) * (height + label)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (task, strip) in enumerate(strips):
        draw.text((4, row * (height + label) + 2), f"{task.replace('_', ' ')}: generated", fill="black")
        sheet.paste(Image.fromarray(strip), (0, row * (height + label) + label))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
