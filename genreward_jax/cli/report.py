"""``report``: one page of all runs in a folder: curves, scores, episodes beside goals, settings, what is missing."""

from pathlib import Path

from genreward_jax.arguments import Parser
from genreward_jax.errors import UserError

USAGE = "[--runs FOLDER] [--out FILE.html] [--plan FILE]"


def run(argv: list[str]) -> int:
    """Writes the page, which needs no network and no server; gives the exit code."""
    from genreward_jax.paper_figures import plan, runs, sheet
    from genreward_jax.run_report import content, page

    parser = Parser("report", USAGE, description=__doc__)
    parser.add_argument("--runs", default="runs", help="folder with run directories, at any depth (default: runs)")
    parser.add_argument("--out", default="", help="the page (default: report.html in that folder)")
    parser.add_argument("--plan", default="", help="a file in place of configs/figures.yaml")
    args = parser.parse_args(argv)
    folder = runs.existing(runs.folder_of(args.runs))
    out = Path(args.out).expanduser() if args.out else folder / "report.html"
    if out.is_dir() or not out.suffix:
        out = out / "report.html"
    if out.suffix != ".html":
        raise UserError(f"--out {out} (OUT=) must end in .html, or name a folder.")
    with sheet.into(out.parent):
        gathered = content.gather(folder, plan.read(args.plan))
        page.write(gathered, out)
    size = out.stat().st_size / 2**20
    beside = out.with_name(f"{out.stem}_files")
    more = f", and {beside} with the videos that are too large for it" if beside.is_dir() else ""
    print(f"{len(gathered.runs)} runs: {out} ({size:.1f} MB{more}); open it in a browser.")
    return 0
