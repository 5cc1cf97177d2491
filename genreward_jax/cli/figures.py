"""``figures``: draws the paper's figures from the runs that are there, and says which are missing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from genreward_jax.arguments import Parser
from genreward_jax.errors import UserError

USAGE = "[--figure 5] [--runs FOLDER] [--out FOLDER] [--preset smoke|cpu|paper] [--plan FILE]"
RUNS = "runs"


def run(argv: list[str]) -> int:
    """Draws one figure or all, as PNG, PDF and the CSV behind it; gives the exit code.

    Nothing is filled in: a run that is not there is named, with the command that makes it.
    """
    from genreward_jax.paper_figures import make, plan, runs, sheet

    args = _parser().parse_args(argv)
    planned = plan.read(args.plan)
    names = make.check(planned, args.figure)
    if args.preset and args.preset not in planned.presets:
        raise UserError(f"There is no preset '{args.preset}' in {planned.file}: {', '.join(planned.presets)}.")
    folder, out = runs.folder_of(args.runs or RUNS), Path(args.out).expanduser()
    found = runs.find(folder) if args.runs or folder.exists() else []
    with sheet.into(out):
        errors = _draw_each(names, lambda name: make.draw(planned, name, folder, found, out, args.preset), args, folder)
    if errors:
        raise UserError(f"{errors} of {len(names)} figures could not be drawn; why is above.")
    return 0


def _draw_each(names: list[str], draw: Callable[[str], Any], args: Any, folder: Path) -> int:
    """Draws and says what became of each; one that cannot be drawn holds up no other. Gives how many could not be.

    Raises:
        UserError: The only figure that was asked for cannot be drawn, or has no run.
    """
    from genreward_jax.paper_figures.make import said

    errors = 0
    for name in names:
        try:
            drawn = draw(name)
        except UserError as error:
            if len(names) == 1:
                raise
            errors += 1
            print(f"Figure {name}: not drawn, {error}", flush=True)
            continue
        print(said(drawn, most=1000 if args.figure else 2), flush=True)
        if args.figure and not drawn.files and len(names) == 1:
            raise UserError(f"Figure {name} has none of its runs in '{folder}'; what makes them is above.")
    return errors


def _parser() -> Parser:
    parser = Parser("figures", USAGE, description=__doc__)
    parser.add_argument("--figure", default="", help="of the paper, as 5 or A or 5,7; all if it is left out")
    parser.add_argument("--runs", default="", help="folder with run directories, at any depth (default: runs)")
    parser.add_argument("--out", default="figures", help="folder for the pictures (default: figures)")
    parser.add_argument("--preset", default="", help="only runs with it")
    parser.add_argument("--plan", default="", help="a file in place of configs/figures.yaml")
    return parser
