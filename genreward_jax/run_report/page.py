"""The page itself: tables and cards as HTML, curves as data for its script, videos inside it while they are small."""

import base64
import html
import json
import re
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax import provenance
from genreward_jax.paper_figures import pictures
from genreward_jax.paper_figures.match import changes
from genreward_jax.paper_figures.runs import Run
from genreward_jax.run_report.content import Report, number, state

COLOURS = ("#2d69af", "#c8641e", "#3f8f5b", "#a04a8c", "#b8932f", "#5a6470", "#4aa3a3", "#c25b86", "#1e1e1e")
BUDGET = 24 * 2**20  # bytes of videos inside the page; the others are copied beside it


class Videos:
    """Puts videos into the page, or beside it once those inside are too large together.

    Args:
        page: The page's path; the folder beside it is named after it.
    """

    def __init__(self, page: Path) -> None:
        self.folder = page.with_name(f"{page.stem}_files")
        for old in self.folder.glob("[0-9][0-9][0-9].mp4"):  # of an earlier page of that name
            old.unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
        self._spent = 0
        self._known: dict[bytes, str] = {}

    def source(self, file: Path) -> str:
        """What a video's ``src`` is: the same for the same content."""
        content = file.read_bytes()
        if content not in self._known:
            self._spent += len(content)
            self._known[content] = self._data(content) if self._spent <= BUDGET else self._copy(file)
        return self._known[content]

    @staticmethod
    def _data(content: bytes) -> str:
        return "data:video/mp4;base64," + base64.b64encode(content).decode()

    def _copy(self, file: Path) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{len(self._known):03d}.mp4"
        shutil.copyfile(file, self.folder / name)
        return f"{self.folder.name}/{name}"


def page(report: Report, path: Path) -> str:
    """The whole page.

    Args:
        report: What was gathered.
        path: Where it will be written: large videos are copied beside it.
    """
    videos = Videos(path)
    parts = {
        "TITLE": _text(f"Runs in {report.folder}"),
        "ABOUT": _text(_about(report)),
        "CURVES": json.dumps(_curves(report), separators=(",", ":")).replace("<", "\\u003c"),
        "OVERVIEW": "".join(_row(index, run, report.name(run)) for index, run in enumerate(report.runs)),
        "SCORES": "".join(_score(file, content) for file, content in report.scores)
        or '<p class="quiet">No score.json is in this folder: make score OUT=folder/inside/it writes one.</p>',
        "CARDS": "".join(_card(index, run, report.name(run), videos) for index, run in enumerate(report.runs)),
        "MISSING": _missing(report),
    }
    template = resources.files("genreward_jax.run_report").joinpath("page.html").read_text(encoding="utf-8")
    return re.sub("%([A-Z]+)%", lambda found: parts[found[1]], template)  # once: a value may hold such a name


def _text(words: Any) -> str:
    return html.escape(str(words))


def _about(report: Report) -> str:
    runs = report.runs
    count = lambda values, word: f"{len(set(values))} {word}{'s' * (len(set(values)) != 1)}"
    sizes = ", ".join(
        (
            count([run.path for run in runs], "run"),
            count([run.task for run in runs], "task"),
            count([run.method for run in runs], "method"),
            count([run.seed for run in runs], "seed"),
        )
    )
    dense = "Returns are of the environment's dense reward, whatever a run is trained on."
    return f"{sizes}. {dense} Made at {provenance.sentence()}."


def _curves(report: Report) -> list[dict[str, Any]]:
    """A panel a task: its lines, each with its mean and the curve of every seed."""
    labels = list(dict.fromkeys(line.label for line in report.lines))
    panels: dict[str, dict[str, Any]] = {}
    for line in report.lines:
        seeds = [{"seed": run.seed, "run": index, "points": _points(run)} for index, run in line.runs]
        colour = COLOURS[labels.index(line.label) % len(COLOURS)]
        panel = panels.setdefault(line.task, {"task": pictures.name(line.task), "lines": []})
        panel["lines"].append({"label": line.label, "colour": colour, "mean": line.mean(), "seeds": seeds})
    return list(panels.values())


def _points(run: Run) -> list[list[float | None]]:
    return [
        [evaluation.step, number(float(np.mean(evaluation.returns))), number(float(np.mean(evaluation.successes)))]
        for evaluation in run.evaluations
    ]


def _row(index: int, run: Run, name: str) -> str:
    last = run.evaluations[-1] if run.evaluations else None
    spread = f" ± {last.returns.std():.1f}" if last and not last.is_mean and last.episodes > 1 else ""
    cells = [
        run.task.replace("_", " "),
        run.method,
        run.env_reward,
        run.seed,
        run.flat["preset"],
        state(run),
        f"{last.returns.mean():.1f}{spread}" if last else "-",
        f"{last.successes.mean():.0%}" if last and np.isfinite(last.successes).all() else "-",
        last.episodes if last else "-",
    ]
    inside = "".join(f"<td>{_text(cell)}</td>" for cell in cells)
    return f'<tr><th scope="row"><a href="#run-{index}">{_text(name)}</a></th>{inside}</tr>'


def _card(index: int, run: Run, name: str, videos: Videos) -> str:
    shown = _media(run, videos)
    changed = "".join(
        f"<tr><th>{_text(flag)}</th><td>{_text(value)}</td><td>{_text(usual)}</td></tr>"
        for flag, value, usual in changes(run)
    )
    changed = (
        f"<table><thead><tr><th>flag</th><th>here</th><th>preset and method</th></tr></thead>{changed}</table>"
        if changed
        else '<p class="quiet">All flags are as the preset and the method have them.</p>'
    )
    flags = "\n".join(f"{flag}: {_text(_written(value))}" for flag, value in sorted(run.flat.items()))
    starts = "; ".join(
        f"{start['commit'] or 'unknown commit'}, {', '.join(filter(None, (start['gpu'], start['machine'])))}"
        for start in run.starts
    )
    return (
        f'<section class="card" id="run-{index}"><h3>{_text(name)}</h3>'
        f'<p class="quiet">{_text(state(run))}; {_text(starts or "hardware and commit unknown")}</p>'
        f'<div class="media">{shown}</div>{changed}'
        f"<details><summary>The whole configuration</summary><pre>{flags}</pre></details></section>"
    )


def _written(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _media(run: Run, videos: Videos) -> str:
    """The last episode beside the goal and its key frame; words where there is none."""
    parts, both = [], run.path / "videos" / "episode_beside_goal.mp4"
    videos_of = ((pictures.episode_file(run), "last episode"), (run.path / "goal" / "goal.mp4", "goal video"))
    if videos_of[0][0] is None and both.is_file():  # of a run from before the episode was kept by itself
        videos_of = ((both, "goal video and last episode"),)
    for file, words in videos_of:
        if file is not None and file.is_file():
            source = videos.source(file)
            player = "muted loop playsinline controls preload=metadata"
            tag = f'<video {player} aria-label="{words}" src="{source}"></video>'
            wide = ' class="wide"' * (file == both)
            parts.append(f"<figure{wide}>{tag}<figcaption>{words}</figcaption></figure>")
        else:
            parts.append(f'<p class="quiet">no {words}</p>')
    key = run.path / "goal" / "key_frame.png"
    if key.is_file():
        source = "data:image/png;base64," + base64.b64encode(key.read_bytes()).decode()
        parts.append(f'<figure><img alt="the key frame" src="{source}"><figcaption>its key frame</figcaption></figure>')
    return "".join(parts)


def _score(file: Path, content: dict[str, Any]) -> str:
    """One score.json as a table: a row a reward."""
    from genreward_jax.score.across import METRICS

    columns = [(variant, heading, metric) for variant, named in METRICS.items() for heading, metric in named.items()]
    heads = "".join(
        f"<th>{_text(heading)}<br><small>{variant.replace('_', ' ')}</small></th>" for variant, heading, _ in columns
    )
    rows = []
    for name, figures in content["rewards"].items():
        kind = ' class="control"' if name in content.get("controls", ()) else ""
        cells = "".join(f"<td>{_text(_figure(figures.get(metric)))}</td>" for _, _, metric in columns)
        rows.append(f'<tr{kind}><th scope="row">{_text(name)}</th>{cells}</tr>')
    what = f"{content.get('task', '').replace('_', ' ') or 'given episodes'}; goal: {content.get('goal', '')}; {file}"
    return (
        f'<div class="scroll"><table><caption>{_text(what)}</caption>'
        f"<thead><tr><th>reward</th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _figure(figure: dict[str, float | None] | None) -> str:
    if not figure or figure.get("value") is None:
        return "-"
    interval = "" if figure.get("low") is None else f" ({figure['low']:.2f} to {figure['high']:.2f})"
    return f"{figure['value']:.2f}{interval}"


def _missing(report: Report) -> str:
    parts = [f"<li>{_text(note)}</li>" for note in report.notes]
    for missing in report.missing:
        head = f"Figure{'s' * (',' in missing.figure)} {missing.figure}{f' ({missing.title})' if missing.title else ''}"
        commands = "".join(f"<code>{_text(command)}</code>" for command in missing.commands)
        more = f"<details><summary>the commands</summary>{commands}</details>" if commands else ""
        parts.append(f"<li><b>{_text(head)}</b>: {_text(missing.says)}{more}</li>")
    return f"<ul>{''.join(parts)}</ul>" if parts else "<p>Nothing: every figure of the paper has its runs here.</p>"


def write(report: Report, path: Path) -> Path:
    """Writes the page, whole or not at all."""
    from genreward_jax.rundir import write_text

    write_text(path, page(report, path))
    return path
