"""``sweep``: trains tasks x methods x environment rewards x seeds x flags on Ray; goes on where it was stopped."""

import sys

from genreward_jax.arguments import Parser
from genreward_jax.errors import UserError

USAGE = "FILE [--out FOLDER_OR_URL] [--dry] [--retries N] [--at-once N] [--num-cpus N] [--num-gpus N]"


def run(argv: list[str]) -> int:
    """Carries out the sweep of a YAML file; 0 when every run is finished, 1 if one failed, 130 if it was stopped."""
    from genreward_jax.sweep import plan
    from genreward_jax.sweep.run import run_jobs
    from genreward_jax.sweep.storage import join

    parser = Parser("sweep", USAGE, description=__doc__)
    parser.add_argument("file", help="a YAML file, or a name under configs/sweeps")
    parser.add_argument("--out", help="folder that all nodes see, or fsspec URL, in place of the file's own")
    parser.add_argument("--dry", action="store_true", help="only says what would be trained")
    parser.add_argument("--retries", type=int, help="how often a run that failed is tried again")
    parser.add_argument("--at-once", type=int, help="at most so many runs at a time")
    parser.add_argument("--num-cpus", type=float, help="for each run")
    parser.add_argument("--num-gpus", type=float, help="for each run; a fraction shares a GPU")
    args = parser.parse_args(argv)
    sweep = plan.read_sweep(args.file)
    retries = sweep.retries if args.retries is None else args.retries
    at_once = sweep.at_once if args.at_once is None else args.at_once
    if retries < 0 or (at_once is not None and at_once < 1):
        raise UserError("--retries must be 0 or more, and --at-once 1 or more.")
    own = {"num_cpus": args.num_cpus, "num_gpus": args.num_gpus}
    resources = {**sweep.resources, **{name: value for name, value in own.items() if value is not None}}
    plan.check_resources(resources)
    jobs, out = sweep.jobs(), args.out or sweep.out
    if args.dry:
        for job in jobs:
            state = "finished" if plan.is_done(join(out, job.name), job) else "missing "
            print(f"  {state}  {job.name}: train {' '.join(job.flags)}")
        return 0
    results = run_jobs(jobs, out, resources=resources, retries=retries, at_once=at_once)
    return conclude(results, out)


def conclude(results: dict[str, str], out: str) -> int:
    """One sentence for each run that failed, and the exit code."""
    failed = {name: text for name, text in results.items() if text.startswith("failed")}
    for name, text in failed.items():
        print(f"genreward_jax: {name} {text}", file=sys.stderr)
    if "stopped" in results.values():
        left = sum(text == "stopped" for text in results.values())
        print(f"Stopped with {left} of {len(results)} runs unfinished; the same command goes on.")
        return 130
    if failed:
        print(f"{len(failed)} of {len(results)} runs failed; the same command tries them again and leaves the others.")
        return 1
    print(f"All {len(results)} runs are finished: {out}")
    return 0
