"""``score.html``: one file without a network, with the tables, and the episodes' videos with the reward beside them."""

import base64
import html
import io
import json
import re
from collections.abc import Sequence
from fractions import Fraction
from importlib import resources
from typing import Any

import numpy as np

from genreward_jax.figures.score import COLOURS
from genreward_jax.score import table
from genreward_jax.score.result import Score
from genreward_jax.score.statistics import Figures
from genreward_jax.score.trajectories import Trajectory
from genreward_jax.score.values import Values

SHOWN = 16  # episodes: two seeds of the eight behaviours
SMALL, LARGE = 160, 256  # pixels of a video's longer side: smaller ones are enlarged, pixel by pixel, larger ones cut
BUDGET = 6 * 2**20  # bytes of all videos, before base64 makes a third more of them
CRF = 18  # of H.264: below it nothing more is seen


def page(score: Score, picture: bytes) -> str:
    """The whole page.

    Args:
        score: What was found out.
        picture: ``score.png``.
    """
    shown, videos = _chosen(score)
    rewards = [name for name in score.figures if name not in score.controls]
    said = [f"<b>{_text(name)}</b>: {_text(table.verdict(score, name))}{_about(score, name)}" for name in rewards]
    said += [_text(sentence) for sentence in table.control_faults(score)]
    said += [_text(f"Note: {note}") for note in score.notes]
    parts = {
        "TITLE": _text(f"Rewards judged on {score.task.replace('_', ' ') or 'given episodes'}"),
        "ABOUT": _text(_about_all(score)),
        "COMMAND": f"<code>{_text(score.command)}</code>" + (f" at {_text(score.commit)}" if score.commit else ""),
        "VERDICTS": "".join(f"<li>{line}</li>" for line in said),
        "TABLES": "".join(_table(score, variant) for variant in table.TITLES),
        "ALL": _all(score.figures),
        "SHOWN": _text(_said_shown(score, shown)),
        "GOAL": _goal(score),
        "PICTURE": base64.b64encode(picture).decode(),
        "DATA": _data(score, shown, videos),
    }
    template = resources.files("genreward_jax.score").joinpath("page.html").read_text(encoding="utf-8")
    # One pass, so that a value with a placeholder's name in it stays as it is.
    return re.sub("%([A-Z]+)%", lambda found: parts[found[1]], template)


def _text(words: str) -> str:
    return html.escape(str(words))


def _about(score: Score, name: str) -> str:
    return f' <span class="quiet">({_text(score.about[name])})</span>' if score.about.get(name) else ""


def _about_all(score: Score) -> str:
    seeds = len(set(score.seeds))
    text = f"{len(score.trajectories)} episodes of {seeds} seed{'s' * (seeds != 1)}."
    return f"{text} Goal: {score.goal}." if score.goal else text


def _said_shown(score: Score, shown: list[int]) -> str:
    count = len(score.trajectories)
    if len(shown) == count:
        return "All episodes are shown."
    return f"{len(shown)} of the {count} episodes are shown, to keep this file small; the figures are of all."


def _table(score: Score, variant: str) -> str:
    columns = table.columns_of(score, variant)
    if not columns:
        return ""
    joined = [f"{c.above} {c.below}".replace(" >", "\u00a0>") for c in columns]
    heads = "".join(f'<th scope="col">{_text(words)}</th>' for words in joined)
    rewards = [name for name in score.figures if name not in score.controls]
    controls = [name for name in score.figures if name in score.controls]
    rows = []
    for name in [*rewards, *controls]:
        kind = "control first-control" if controls and name == controls[0] else "control" if name in controls else ""
        cells = "".join(f"<td>{_text(cell)}</td>" for cell in table.cells(score.figures[name], columns))
        rows.append(f'<tr class="{kind}"><th scope="row">{_text(name)}</th>{cells}</tr>')
    return (
        f'<div class="scroll"><table id="{variant}"><caption>{_text(table.TITLES[variant])}</caption>'
        f'<thead><tr><th scope="col">reward</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _all(figures: dict[str, Figures]) -> str:
    """Every metric of every reward, a row a metric."""
    metrics = list(dict.fromkeys(metric for each in figures.values() for metric in each))
    heads = "".join(f'<th scope="col">{_text(name)}</th>' for name in figures)
    rows = []
    for metric in metrics:
        cells = "".join(f"<td>{_text(_whole(each.get(metric)))}</td>" for each in figures.values())
        rows.append(f'<tr><th scope="row">{_text(metric)}</th>{cells}</tr>')
    return f'<table><thead><tr><th scope="col">metric</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _whole(figure: dict[str, float | None] | None) -> str:
    if figure is None or figure["value"] is None:
        return "-"
    interval = "" if figure["low"] is None else f" ({figure['low']:.4g} to {figure['high']:.4g})"
    return f"{figure['value']:.4g}{interval}"


def _chosen(score: Score) -> tuple[list[int], list[bytes]]:
    """Which episodes are shown, and their videos: seed by seed all behaviours, as far as the bytes go."""
    order = sorted(range(len(score.trajectories)), key=lambda i: sum(_same(score.trajectories, i, j) for j in range(i)))
    videos: list[bytes] = []
    for index in order[:SHOWN]:
        made = encoded(score.trajectories[index].frames, score.fps)
        if videos and sum(map(len, videos)) + len(made) > BUDGET:
            break
        videos.append(made)
    shown = order[: len(videos)]
    by_place = sorted(zip(shown, videos, strict=True))
    return [index for index, _ in by_place], [video for _, video in by_place]


def _same(trajectories: Sequence[Trajectory], i: int, j: int) -> bool:
    return trajectories[i].behaviour == trajectories[j].behaviour


def encoded(frames: np.ndarray, fps: float) -> bytes:
    """An mp4 (H.264) that browsers play, in memory.

    Args:
        frames: uint8 (N, H, W, 3). Small ones are enlarged first, since H.264 for browsers halves the colours' size.
        fps: Frames a second.
    """
    import av

    from genreward_jax.datasets.clips import fitted

    height, width = frames.shape[1:3]
    factor = max(1, -(-SMALL // max(height, width)))
    scale = min(1.0, LARGE / max(height, width))
    target = (max(2, int(height * scale)), max(2, int(width * scale)))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.options = {"crf": str(CRF), "preset": "fast", "g": "32"}
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(frames):
            large = fitted(frame, target).repeat(factor, 0).repeat(factor, 1)
            large = np.pad(large, ((0, large.shape[0] % 2), (0, large.shape[1] % 2), (0, 0)), mode="edge")
            if not number:
                stream.height, stream.width = large.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(large), format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def _source(video: bytes) -> str:
    return "data:video/mp4;base64," + base64.b64encode(video).decode()


def _goal(score: Score) -> str:
    if score.goal_frames is None:
        return ""
    source = _source(encoded(score.goal_frames, 8.0))
    return (
        '<p class="quiet" style="margin-top:1rem">The goal</p>'
        f'<video muted loop playsinline controls aria-label="the goal video" src="{source}"></video>'
    )


def _data(score: Score, shown: list[int], videos: list[bytes]) -> str:
    """What the script draws, as JSON that no HTML can begin in."""
    episodes = []
    for index, video in zip(shown, videos, strict=True):
        trajectory = score.trajectories[index]
        episodes.append(
            {
                "behaviour": trajectory.behaviour,
                "seed": int(trajectory.seed),
                "length": trajectory.length,
                "success_step": trajectory.success_step,
                "video": _source(video),
                "values": {name: _values(values[index]) for name, values in score.values.items()},
            }
        )
    content = {"fps": score.fps, "colours": COLOURS, "episodes": episodes}
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def _values(values: Values) -> dict[str, list[Any]]:
    """Every step's value, and [step, value] of the rows that training would pay."""
    short = lambda x: float(f"{x:.5g}") if np.isfinite(x) else None  # noqa: E731
    paid = np.flatnonzero(np.isfinite(values.as_trained))
    return {
        "every_step": [short(x) for x in np.asarray(values.every_step, np.float64)],
        "as_trained": [[int(step), short(float(values.as_trained[step]))] for step in paid],
    }
