"""``relabel RUN --out FOLDER``: another goal, method or weights for episodes that were played already."""

import shlex
import signal
import sys

import elements

from genreward_jax import config as config_lib
from genreward_jax.arguments import Parser
from genreward_jax.errors import UserError


def run(argv: list[str]) -> int:
    """Writes a run directory that ``train`` can go on from; all other flags are those of ``train``.

    Of them --method, --reward.*, --goal.*, --model.* and --bridge.* may differ from the run's.
    """
    if {"-h", "--help"} & set(argv):
        print(f"{__doc__}\n\n{run.__doc__}")
        return 0
    parser = Parser("relabel", "RUN --out FOLDER [--reward.alpha 0.1] [--goal.source FILE]", add_help=False)
    parser.add_argument("run")
    parser.add_argument("--out", required=True)
    args, flags = parser.parse_known_args(argv)
    from dreamerv3_patches.apply import require

    require()
    from genreward_jax.relabel import relabel
    from genreward_jax.rundir import run_config

    if {flag.partition("=")[0] for flag in flags} & {"--logdir", "--preset", "--configs"}:
        raise UserError("relabel: the run keeps its size and gets its folder from --out (OUT=); leave those flags out.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was half written is taken away
    old = run_config(args.run)
    new = config_lib.parse(flags, base=old).update(logdir=args.out)
    _tell(args.out, new, relabel(args.run, args.out, old, new))
    return 0


def _tell(out: str, config: elements.Config, facts: dict) -> None:
    from genreward_jax.progress import block

    lines = [("rows", f"{facts['rows']:,}")]
    if facts["without_beginning"]:
        text = f"{facts['without_beginning']:,} rows belong to episodes whose beginning has left the replay: unpaid"
        lines.append(("", text))
    for name, told in facts["rewards"].items():
        how = "kept" if name in facts["kept"] else "asked again" if name in facts["recomputed"] else "dropped"
        paid, mean = (" -> ".join("-" if x is None else f"{x:.6g}" for x in told[key]) for key in ("paid", "mean"))
        lines.append((name, f"{how}; rows paid {paid}; mean {mean}"))
    lines.append(("share", " -> ".join(f"{share:.2%}" for share in facts["share"]) + " of the reward by size"))
    lines.append(("go on", f"python -m genreward_jax train {shlex.join(_flags(config))} --logdir {shlex.quote(out)}"))
    print(block(lines))


def _flags(config: elements.Config) -> list[str]:
    """The flags that differ from those of the preset and the method, which make the configuration again."""
    from genreward_jax.rundir import MAY_CHANGE

    free = tuple(name for name in MAY_CHANGE if not name.startswith("goal")) + ("method", "env.metaworld.quality")
    flags = ["--preset", config.preset, "--method", config.method]
    plain = config_lib.parse(flags)
    for key, value in config.flat.items():
        if value != plain.flat[key] and not any(key == name or key.startswith(f"{name}.") for name in free):
            flags += [f"--{key}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return flags
