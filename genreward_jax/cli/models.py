"""``models``: trains the embedded family from nothing, data included; stopped and started again, it goes on."""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from genreward_jax.arguments import Parser
from genreward_jax.errors import UserError
from genreward_jax.progress import clock

PARTS = ("vae", "transformer", "clip", "dino", "experts")
USAGE = f"[--out FOLDER] [--parts {' '.join(PARTS)}] [--scale 1.0]"


def run(argv: list[str]) -> int:
    """Renders, trains and assembles; gives the exit code."""
    parser = Parser("models", USAGE, description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("models"), help="data, work files and the family go here")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="which to train, in this order")
    parser.add_argument("--scale", type=float, default=1.0, help="times the recipe's number of steps")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that render, and threads")
    args = parser.parse_args(argv)
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out {args.out} is a file; name a folder.")
    if args.scale <= 0 or args.workers < 1:
        raise UserError(f"--scale {args.scale:g} and --workers {args.workers} must be above 0.")
    out, begun = args.out.absolute(), time.monotonic()
    family, experts = out / "embedded", out / "embedded+experts"
    for part in args.parts:
        if part == "experts":
            if not (experts / "family.json").is_file():
                _render("experts", out / "data-experts", args.workers)
                _adapt(family, out / "data-experts", experts, args)
        elif not (family / part / "config.json").is_file() and not (family / part / "open_clip_config.json").is_file():
            _render("training", out / "data", args.workers)
            training = ["-m", "torch_bridge.training.embedded", "--part", part, "--data", out / "data"]
            run_module(training + ["--work", out, "--scale", args.scale, "--threads", args.workers])
        print(f"{part}: done, {clock(time.monotonic() - begun)} since the start", flush=True)
    if (family / "family.json").is_file():
        print(f"The trained models are in {family}; use them with MODEL={family}, judge them with make models-eval.")
    else:
        print("The family is not whole yet: the parts that were left out are missing.")
    return 0


def _render(group: str, folder: Path, workers: int) -> None:
    run_module(["-m", "genreward_jax.demonstrations.render", "--group", group, "--out", folder, "--workers", workers])


def _adapt(family: Path, data: Path, out: Path, args: argparse.Namespace) -> None:
    """The adapter for the paper's tasks, by the same command that a user with demonstrations would give."""
    if not (family / "family.json").is_file():
        raise UserError(f"The part experts adapts {family}, which is not whole yet: train its parts first.")
    run_module(["-m", "genreward_jax", "finetune", "--data", data, "--model", family, "--out", out, *EXPERTS])
    # The shipped adapter belongs to the shipped family, wherever that lies.
    shutil.rmtree(out / ".work", ignore_errors=True)


EXPERTS = ("--stride", "1")


def run_module(arguments: list) -> None:
    """Runs a module in a process of its own; its exit code 2 becomes this process's."""
    root = str(Path(__file__).resolve().parents[2])
    # Threads that spin while they wait make a busy machine ten times slower.
    env = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run([sys.executable, *map(str, arguments)], env=env)
    if done.returncode == 2:
        raise SystemExit(2)  # it has said what is wrong
    if done.returncode:
        raise UserError(
            f"{' '.join(map(str, arguments[:4]))} ended with code {done.returncode}; the same command goes on from its "
            "last checkpoint."
        )
