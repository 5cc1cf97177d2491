"""``reproduce``: trains what a figure of the paper misses, then draws it."""

from functools import partial
from pathlib import Path

from genreward_jax.arguments import Parser
from genreward_jax.errors import UserError

USAGE = "--figure 9 [--preset smoke|cpu|paper] [--runs FOLDER] [--out FOLDER] [--plan FILE] [--at-once N] [--dry]"


def run(argv: list[str]) -> int:
    """Runs what is missing on Ray, as ``sweep`` does, and draws; goes on where it was stopped. Gives the exit code."""
    from genreward_jax.cli import figures, sweep
    from genreward_jax.config import PRESETS, nearest
    from genreward_jax.paper_figures import make, plan, reproduce, runs, sheet
    from genreward_jax.sweep.run import run_jobs

    args = _parser().parse_args(argv)
    if not args.figure:
        raise UserError("Which figure? make reproduce FIGURE=5 PRESET=smoke (or several: FIGURE=5,7).")
    planned = plan.read(args.plan)
    names = make.check(planned, args.figure)
    preset = args.preset or plan.usual_preset(planned)
    if preset not in planned.presets:
        raise UserError(f"There is no preset '{preset}' in {planned.file}: {nearest(preset, list(PRESETS))}")
    if args.at_once is not None and args.at_once < 1:
        raise UserError(f"--at-once is {args.at_once}; it must be 1 or more.")
    folder = runs.folder_of(args.runs or make.default_runs(preset))
    if args.dry:
        needed, _ = reproduce.jobs(planned, names, folder, preset)
        print("\n".join(f"  {job.name}: train {' '.join(job.flags)}" for job in needed) or "  nothing is missing")
        return 0
    with sheet.into(Path(args.out).expanduser()):
        pass  # a folder that cannot be made is said before the training
    given = {"num_cpus": args.num_cpus, "num_gpus": args.num_gpus}
    resources = {name: value for name, value in given.items() if value is not None}
    runner = partial(run_jobs, resources=resources, at_once=args.at_once)
    outcome = reproduce.make_up(planned, names, folder, preset, runner)
    code = sweep.conclude(outcome, str(folder)) if outcome else 0
    if code == 130:
        return code
    drawn = figures.run(_drawing(args, names, preset, folder))
    return code or drawn


def _drawing(args, names: list[str], preset: str, folder: Path) -> list[str]:
    words = ["--figure", ",".join(names), "--preset", preset, "--out", args.out, "--plan", args.plan]
    return [*words, *(["--runs", str(folder)] if folder.exists() else [])]


def _parser() -> Parser:
    parser = Parser("reproduce", USAGE, description=__doc__)
    parser.add_argument("--figure", default="", help="of the paper, as 9 or 5,7")
    parser.add_argument("--preset", default="", help="smoke, cpu or paper (default: paper on a GPU, cpu elsewhere)")
    parser.add_argument(
        "--runs", default="", help="folder for the runs of all figures (default: runs/figures/<preset>)"
    )
    parser.add_argument("--out", default="figures", help="folder for the pictures (default: figures)")
    parser.add_argument("--plan", default="", help="a file in place of configs/figures.yaml")
    parser.add_argument("--at-once", type=int, help="at most so many runs at a time")
    parser.add_argument("--num-cpus", type=float, help="for each run")
    parser.add_argument("--num-gpus", type=float, help="for each run; a fraction shares a GPU")
    parser.add_argument("--dry", action="store_true", help="only says what would be trained")
    return parser
