"""``bench``: measures what the reward and the speed-ups cost and save, prints a table, writes bench.json."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from genreward_jax import config as config_lib
from genreward_jax.arguments import Parser
from genreward_jax.errors import UserError

# Number, module of genreward_jax.bench, and whether a default run has it.
ITEMS = {
    "1": ("loop", True),
    "2": ("train_step", True),
    "3": ("rendering", True),
    "4": ("bridge", True),
    "5": ("startup", True),
    "6": ("paper_step", False),
    "7": ("memory", False),
    "8": ("growth", False),
}
USAGE = "[--quick | --full] [--items N ...] [--out FOLDER] [-- --any.flag VALUE ...]"


def run(argv: list[str]) -> int:
    """Measures each item in a process of its own; exit code 1 if one failed, with what it said."""
    argv, flags = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    parser = Parser("bench", USAGE, description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a smoke: everything runs, no figure means much")
    size.add_argument("--full", action="store_true", help="all items and sizes, without a limit in time")
    parser.add_argument("--items", nargs="+", help="numbers of items; 1 to 5, with --full all")
    parser.add_argument("--out", type=Path, default=Path("bench"), help="folder of bench.json and pictures")
    parser.add_argument("--child", help="measures this item here and writes it to --out (used by the command itself)")
    args = parser.parse_args(argv)
    scale = "quick" if args.quick else "full" if args.full else "default"
    if args.child:
        return _child(args.child, scale, flags, args.out)
    chosen = args.items or [number for number, (_, usual) in ITEMS.items() if usual or args.full]
    for number in chosen:
        if number not in ITEMS:
            raise UserError(f"There is no item {number} of the benchmark: there are {', '.join(ITEMS)}.")
    config_lib.parse(["--preset", "cpu", *flags])  # a flag that there is not is said at once
    return _measure_all(chosen, scale, flags, args.out)


def _child(item: str, scale: str, flags: list[str], out: Path) -> int:
    import importlib

    from genreward_jax.bench.scale import SCALES

    module = importlib.import_module(f"genreward_jax.bench.{ITEMS[item][0]}")
    say, sizes = lambda text: _say(f"  {item}. {text}"), SCALES[scale]
    measured = module.measure(sizes, [*sizes.flags, *flags], say, out)
    (out / f"item{item}.json").write_text(json.dumps(measured.as_dict()))
    wrong = [figure.name for figure in measured.figures if not np.isfinite(figure.values).all()]
    if wrong:
        _say(f"  {item}. no finite number: {', '.join(wrong)}")
    return 1 if wrong else 0


def _measure_all(chosen: list[str], scale: str, flags: list[str], out: Path) -> int:
    from genreward_jax import provenance
    from genreward_jax.bench.figures import markdown, table
    from genreward_jax.rundir import write_json, write_text

    out.mkdir(parents=True, exist_ok=True)
    report = {"date": time.strftime("%Y-%m-%d %H:%M"), "scale": scale, "flags": flags, "commit": provenance.commit()}
    report |= {"machine": provenance.machine(), "versions": provenance.versions(), "items": {}}
    failed, begun = [], time.time()
    for count, number in enumerate(chosen):
        print(
            f"[{count + 1}/{len(chosen)}] item {number}, after {time.time() - begun:.0f} s", file=sys.stderr, flush=True
        )
        found, log = out / f"item{number}.json", out / f"item{number}.log"
        found.unlink(missing_ok=True)
        command = [sys.executable, "-W", "ignore", "-m", "genreward_jax", "bench", "--child", number, "--out", str(out)]
        command += {"quick": ["--quick"], "full": ["--full"], "default": []}[scale] + ["--", *flags]
        with log.open("w") as file:
            code = subprocess.run(command, stdout=file).returncode
        if code or not found.exists():
            failed.append(number)
            _say(f"Item {number} failed (exit code {code}); see {log}.")
        else:
            report["items"][number] = json.loads(found.read_text())
            found.unlink()
            log.unlink()
        write_json(out / "bench.json", report)
    write_text(out / "bench.md", markdown(report["items"]))
    print(table(report["items"]))
    origin = f"commit {report['commit'] or 'unknown'}, {report['machine']}"
    print(f"\n{origin}; {time.time() - begun:.0f} s; {out / 'bench.json'} has every round.")
    return 1 if failed else 0


def _say(text: str) -> None:
    """Progress goes beside the table, which may be written to a file."""
    print(text, file=sys.stderr, flush=True)
