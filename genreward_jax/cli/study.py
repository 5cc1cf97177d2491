"""``study``: trains under several rewards with several seeds, keeps one CSV a run, and draws the curves."""

from pathlib import Path

from genreward_jax.arguments import Parser
from genreward_jax.errors import UserError

USAGE = (
    "[--tasks NAME ...] [--conditions NAME ...] [--seeds K ...] [--steps N] [--out FOLDER] [--dry] [--scores FOLDER]"
)


def run(argv: list[str]) -> int:
    """Makes what is missing of the study in configs/study.yaml, then draws what is there; gives the exit code.

    With ``--scores`` it only compares what is there with what ``make score`` said.
    """
    from genreward_jax import study, study_scores
    from genreward_jax.config import parse
    from genreward_jax.envs.metaworld import check_task
    from genreward_jax.figures.study import study_curves

    parser = Parser("study", USAGE, description=__doc__)
    parser.add_argument("--tasks", nargs="+", help="in place of those of configs/study.yaml")
    parser.add_argument("--conditions", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/study"), help="run directories, to go on from")
    parser.add_argument("--out", type=Path, default=Path("docs/study"), help="CSV files and pictures")
    parser.add_argument("--dry", action="store_true", help="only says what would be trained")
    parser.add_argument("--draw", action="store_true", help="trains nothing and draws what is there")
    parser.add_argument("--scores", type=Path, help="folder of <task>/score.json: trains nothing, compares them")
    args = parser.parse_args(argv)
    if args.steps < 0:
        raise UserError(f"--steps is {args.steps}; it must be 1 or more.")
    if any(seed < 0 for seed in args.seeds or ()):
        raise UserError(f"--seeds {' '.join(map(str, args.seeds))}: seeds must be 0 or more.")
    tasks = [check_task(task) for task in args.tasks] if args.tasks else None
    if args.scores:
        print(study_scores.report(args.scores, args.out, tasks, args.conditions, args.seeds))
        print(f"scores.md and scores.csv are in {args.out}.")
        return 0
    runs = study.plan(tasks, args.conditions, args.seeds, args.steps)
    missing = [run for run in runs if not (args.out / f"{run.name}.csv").is_file()]
    print(f"{len(runs) - len(missing)} of {len(runs)} runs are done.", flush=True)
    if args.dry:
        print("\n".join(f"  {run.name}" for run in missing))
        return 0
    if not args.draw:
        study.carry_out(runs, args.work, args.out)
    curves = study.read(args.out)
    if not curves:
        print(f"Nothing to draw yet in {args.out}.")
        return 0
    played = parse(["--preset", runs[0].preset]).eval
    for key in ("score", "success"):
        caption = (
            f"thin: a seed, thick: their mean; {played.episodes} episodes an evaluation, "
            f"{played.first_episodes} at step 0"
        )
        study_curves(args.out / f"{key}.png", curves, key, caption)
    print(f"Curves and CSV files are in {args.out}.")
    return 0
