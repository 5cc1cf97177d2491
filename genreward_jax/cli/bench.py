"""``bench``: measures what the reward and the speed-ups cost and save, prints a table, writes bench.json."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

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
COMPARED = ("preset", "configs", "method", "run.envs", "patches.fast_convs")  # flags in which the variants differ
AT_ONCE = 2  # items of a quick run, whose figures mean nothing
LONGEST_FIRST = "15243678"  # so that none is alone at the end of a quick run
GRACE = 60.0  # seconds that an interrupted item has to end what it started
USAGE = "[--quick | --full] [--items N ...] [--out FOLDER] [-- --any.flag VALUE ...]"


def run(argv: list[str]) -> int:
    """Measures each item in a process of its own.

    Returns:
        0; 1 if an item failed; 2 if one failed for what the user can mend, which it has said.

    Raises:
        UserError: Flags that there are not or that the items set themselves, no such item, or no such folder.
    """
    argv, flags = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    parser = Parser("bench", USAGE, description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a smoke: everything runs, no figure means much")
    size.add_argument("--full", action="store_true", help="all items and sizes, without a limit in time")
    parser.add_argument("--items", nargs="+", help="numbers of items; 1 to 5, with --full all")
    parser.add_argument("--out", type=Path, default=Path("bench"), help="folder of bench.json and pictures")
    parser.add_argument(
        "--child", choices=list(ITEMS), help="measures it here, into --out (used by the command itself)"
    )
    args = parser.parse_args(argv)
    scale = "quick" if args.quick else "full" if args.full else "default"
    if args.child:
        return _child(args.child, scale, flags, args.out)
    chosen = args.items or [number for number, (_, usual) in ITEMS.items() if usual or args.full]
    for number in chosen:
        if number not in ITEMS:
            raise UserError(f"There is no item {number} of the benchmark: there are {', '.join(ITEMS)}.")
    _refuse_compared(flags)
    config = config_lib.parse(["--preset", "cpu", *flags])  # a flag that there is not is said at once
    return _measure_all(chosen, scale, flags, _folder(args.out), int(config.seed))


def _refuse_compared(flags: list[str]) -> None:
    """A flag in which the variants differ would make them the same: a headline of X by X."""
    for flag in (arg[2:].partition("=")[0] for arg in flags if arg.startswith("--")):
        if any(_matches(flag, name) for name in COMPARED):
            raise UserError(f"bench sets --{flag} itself, as its variants differ in it: leave it out of FLAGS.")


def _matches(flag: str, name: str) -> bool:
    """Whether a flag that is a pattern, as upstream's flags may be, covers one by name."""
    try:
        return re.fullmatch(flag, name) is not None
    except re.error:
        return False


def _folder(out: Path) -> Path:
    """Makes the folder of --out where it is not there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be a folder ({error.strerror}): name another one.") from None
    if not os.access(out, os.W_OK | os.X_OK):
        raise UserError(f"--out {out} cannot be written to: name another folder.")
    return out


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


def _measure_all(chosen: list[str], scale: str, flags: list[str], out: Path, seed: int) -> int:
    from genreward_jax import provenance
    from genreward_jax.bench import machine
    from genreward_jax.bench.figures import markdown, table
    from genreward_jax.rundir import write_json, write_text

    report = {"date": time.strftime("%Y-%m-%d %H:%M"), "scale": scale, "flags": flags, "seed": seed}
    report |= {"commit": provenance.commit(), **machine.describe(), "versions": provenance.versions(), "items": {}}
    codes, begun, running = [], time.time(), []
    # A log wants no bar, but the lines that say which item it is.
    bar = tqdm(total=len(chosen), unit="item", dynamic_ncols=True, disable=None if scale == "full" else True)

    def measured(number: str) -> tuple[int, dict[str, Any]]:
        _say(f"[{chosen.index(number) + 1}/{len(chosen)}] item {number}, after {time.time() - begun:.0f} s")
        return _item(number, scale, flags, out, running)

    with bar, ThreadPoolExecutor(AT_ONCE if scale == "quick" else 1) as pool:
        try:
            at_work = {
                number: pool.submit(measured, number)
                for number in (sorted(chosen, key=LONGEST_FIRST.index) if scale == "quick" else chosen)
            }
            for number in chosen:
                code, found = at_work[number].result()
                codes.append(code)
                report["items"] |= {number: found} if found else {}
                write_json(out / "bench.json", report)
                bar.update()
        except BaseException:  # Ctrl-C reaches them too, and they may have training runs to end before they go
            pool.shutdown(wait=False, cancel_futures=True)
            [_end(process) for process in running]
            raise
    write_text(out / "bench.md", markdown(report["items"]))
    print(table(report["items"]))
    origin = f"commit {report['commit'] or 'unknown'}, {report['machine']}"
    print(f"\n{origin}; {time.time() - begun:.0f} s; {out / 'bench.json'} has every round.")
    return 2 if 2 in codes else 1 if any(codes) else 0


def _item(
    number: str, scale: str, flags: list[str], out: Path, running: list[subprocess.Popen]
) -> tuple[int, dict[str, Any]]:
    """Measures an item in a process of its own; gives its exit code and what bench.json holds of it, {} if it failed.

    What that process says is kept in a log, and passed on as it says it, until the item is measured. The process is
    among ``running``.
    """
    found, log = out / f"item{number}.json", out / f"item{number}.log"
    found.unlink(missing_ok=True)
    command = [sys.executable, "-W", "ignore", "-m", "genreward_jax", "bench", "--child", number, "--out", str(out)]
    command += {"quick": ["--quick"], "full": ["--full"], "default": []}[scale] + ["--", *flags]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE, text=True, errors="replace")
        running.append(process)
        with process.stderr:
            for line in process.stderr:
                print(line, end="", file=file, flush=True)
                _say(line.rstrip("\n"))
        code = process.wait()
    if code or not found.exists():
        _say(f"Item {number} failed (exit code {code}); {log} has what it said.")
        return code or 1, {}
    measured = json.loads(found.read_text())
    found.unlink()
    log.unlink()
    return 0, measured


def _end(process: subprocess.Popen) -> None:
    """Waits for a process that Ctrl-C has reached, asks one that it has not, and kills one that stays."""
    for urge in (lambda: None, partial(process.send_signal, signal.SIGINT), process.kill):
        urge()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
            return


def _say(text: str) -> None:
    """Progress goes beside the table, which may be written to a file, and above the bar if there is one."""
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()
