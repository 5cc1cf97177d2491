"""Flags of fine-tuning: what may be given, what fits the model otherwise, and sentences for mistakes. No torch here.

A default depends on what is trained (an adapter, the whole transformer, the autoencoder) and on the model's size: the
embedded family's transformer has 4.5 million parameters, CogVideoX-5B's five thousand million. docs/finetuning.md gives
their sources.
"""

import argparse
import difflib
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from genreward_jax.arguments import Parser
from genreward_jax.errors import UserError

# Weights from which a model gets the 5B model's defaults: its transformer has 5,000 million, its autoencoder 216.
LARGE = {"transformer": 500_000_000, "vae": 50_000_000}
KINDS = ("lora", "full", "vae")


@dataclass(frozen=True)
class Flag:
    """A number that depends on kind and size.

    Attributes:
        name: As on the command line.
        kind: int or float.
        about: What it means.
        values: Kind of training to its default for a small and for a large model; no entry: it has no effect there.
        least, most: What may be given.
    """

    name: str
    kind: type
    about: str
    values: dict[str, tuple[float, float]]
    least: float = 0
    most: float = math.inf


def _all(small: float, large: float) -> dict[str, tuple[float, float]]:
    return dict.fromkeys(KINDS, (small, large))


def _transformer(small: float, large: float) -> dict[str, tuple[float, float]]:
    return {kind: (small, large) for kind in ("lora", "full")}


FLAGS = (
    Flag("steps", int, "optimiser steps", {"lora": (600, 2000), "full": (1000, 2000), "vae": (1000, 2000)}, 1),
    Flag("lr", float, "learning rate", {"lora": (1e-3, 1e-4), "full": (2e-4, 2e-5), "vae": (2e-4, 1e-5)}, 1e-12, 1),
    Flag("rank", int, "of the adapter, on the attention's projections", {"lora": (16, 128)}, 1, 4096),
    Flag("alpha", int, "the adapter's weight times the rank; default: the rank", {"lora": (16, 128)}, 1, 65536),
    Flag("batch", int, "videos a step and process", {"lora": (8, 4), "full": (8, 4), "vae": (4, 2)}, 1),
    Flag("micro", int, "videos at once; more of a batch come one after the other", _all(0, 1), 0),
    Flag("warmup", int, "steps over which the learning rate rises; then it stays", _all(50, 400)),
    Flag("weight-decay", float, "of AdamW", _all(1e-4, 1e-4), 0, 1),
    Flag("clip", float, "largest norm of the gradient", _all(1, 1), 1e-6),
    Flag("image-dropout", float, "share of first frames that are withheld", _transformer(0.05, 0.05), 0, 0.99),
    Flag("image-noise", float, "middle spread of noise on first frames, of pixels in -1 to 1",
         _transformer(0.05, 0.05), 0, 1),
    Flag("text-dropout", float, "share of captions that are withheld", _transformer(0, 0), 0, 0.99),
    Flag("validation", int, "videos held back; -1: a tenth, 1 to 16", _all(-1, -1), -1),
    Flag("validate-every", int, "steps between validations", _all(100, 250), 1),
    Flag("videos", int, "held-back videos that are generated as a check", _all(2, 2)),
    Flag("videos-every", int, "steps between such videos; 0: only before and after", _all(300, 500)),
)  # fmt: skip
_BY_FIELD = {flag.name.replace("-", "_"): flag for flag in FLAGS}


@dataclass
class Options:
    """What a run was asked for; a number of None is the model's default until :meth:`complete` puts it in."""

    data: Path
    model: str
    out: Path
    part: str = "transformer"
    method: str = "lora"
    name: str = ""
    camera: str = ""
    limit: int = 0
    bad: str = "refuse"
    sizes: str = "same"
    frames: int = 0
    height: int = 0
    width: int = 0
    stride: int = 0
    fit: str = "auto"
    precision: str = "auto"
    checkpointing: str = "auto"
    seed: int = 0
    threads: int = 0
    steps: int | None = None
    lr: float | None = None
    rank: int | None = None
    alpha: int | None = None
    batch: int | None = None
    micro: int | None = None
    warmup: int | None = None
    weight_decay: float | None = None
    clip: float | None = None
    image_dropout: float | None = None
    image_noise: float | None = None
    text_dropout: float | None = None
    validation: int | None = None
    validate_every: int | None = None
    videos: int | None = None
    videos_every: int | None = None

    @property
    def kind(self) -> str:
        """'lora', 'full' or 'vae'."""
        return "vae" if self.part == "vae" else self.method

    def complete(self, large: bool) -> None:
        """Puts the model's defaults where nothing was given.

        Raises:
            UserError: Numbers that do not go together.
        """
        follows = self.alpha is None and self.rank
        for name, flag in _BY_FIELD.items():
            if getattr(self, name) is None and self.kind in flag.values:
                setattr(self, name, flag.kind(flag.values[self.kind][large]))
        self.alpha = follows or self.alpha
        self.micro = self.micro or self.batch
        if self.batch % self.micro:
            raise UserError(f"--micro {self.micro} does not divide --batch {self.batch}; take a divisor of it.")
        if self.videos_every % self.validate_every:
            near = max(1, round(self.videos_every / self.validate_every)) * self.validate_every
            raise UserError(
                f"--videos-every {self.videos_every} is no multiple of --validate-every {self.validate_every}; "
                f"take {near}."
            )

    def settings(self) -> dict[str, Any]:
        """Whatever the result depends on, by flag; what a run is gone on with must be equal."""
        free = ("out", "name", "threads", "bad")
        found = {key.replace("_", "-"): value for key, value in asdict(self).items() if key not in free}
        found["data"] = str(self.data.resolve())
        if Path(self.model).is_dir():
            found["model"] = str(Path(self.model).resolve())
        return {key: value for key, value in found.items() if value is not None}


def _parser() -> Parser:
    parser = Parser(
        "finetune",
        "--data FOLDER --model NAME --out FOLDER (--help lists the other flags)",
        description="Fine-tune a model family's video model on your videos.",
        formatter_class=argparse.RawTextHelpFormatter,
        epilog=_table(),
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with metadata.jsonl, or a LeRobot data set")
    add("--model", required=True, help="family to start from: embedded, a folder, a hub id")
    add("--out", type=Path, required=True, help="folder of the result, for MODEL= afterwards")
    add("--part", choices=("transformer", "vae"), default="transformer", help="default: transformer")
    add("--method", choices=("lora", "full"), help="of the transformer; default: lora")
    add("--name", default="", help="of the new family; default: the folder's")
    add("--camera", default="", help="of a LeRobot data set; default: its first")
    add("--limit", type=int, default=0, help="only the first so many videos; 0: all")
    add("--bad", choices=("refuse", "skip"), default="refuse", help="videos that cannot be used; default: refuse")
    add("--sizes", choices=("same", "any"), default="same", help="any: take videos of other sizes than most")
    add("--frames", type=int, default=0, help="of a clip, 8k + 1; 0: the model's own")
    add("--height", type=int, default=0, help="in pixels; 0: the model's own")
    add("--width", type=int, default=0, help="in pixels; 0: the model's own")
    add("--stride", type=int, default=0, help="every so many frames from the start; 0: evenly over the whole video")
    add("--fit", choices=("auto", "crop", "pad"), default="auto",
        help="to the model's proportions; auto: pad square videos for an oblong model, crop others")  # fmt: skip
    add("--precision", choices=("auto", "no", "bf16"), default="auto", help="auto: bf16 on a GPU")
    add("--checkpointing", choices=("auto", "on", "off"), default="auto",
        help="compute activations twice to save memory; auto: for large models")  # fmt: skip
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=0, help="of the CPU; 0: all")
    for flag in FLAGS:
        add(f"--{flag.name}", type=flag.kind, help=flag.about)
    return parser


def _table() -> str:
    """Defaults of the numbers, for ``--help``."""
    lines = ["defaults (small model / 5B):", f"  {'':<16}{'lora':>16}{'full':>16}{'vae':>16}"]
    for flag in FLAGS:
        cells = (
            "{:g} / {:g}".format(*flag.values[kind]) if kind in flag.values else "-"  # noqa: UP032
            for kind in KINDS
        )
        lines.append(f"  {flag.name:<16}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def parse(argv: list[str]) -> Options:
    """The command line as options.

    Raises:
        UserError: An unknown flag (with the nearest), a value that does not fit, or a flag that has no effect here.
    """
    parser = _parser()
    given, unknown = parser.parse_known_args(argv)
    if unknown:
        _refuse_unknown(unknown, [action.option_strings[-1] for action in parser._actions])
    if given.part == "vae" and given.method == "lora":
        raise UserError("--method lora is for the transformer; the autoencoder is trained as a whole.")
    options = Options(**{**vars(given), "method": given.method or "lora"})
    for name, flag in _BY_FIELD.items():
        value = getattr(options, name)
        if value is None:
            continue
        if options.kind not in flag.values:
            raise UserError(f"--{flag.name} has no effect on this training ({options.kind}); leave it out.")
        if not flag.least <= value <= flag.most:
            upto = f" to {flag.most:g}" if flag.most < math.inf else " or more"
            raise UserError(f"--{flag.name} is {value:g}; it must be {flag.least:g}{upto}.")
    for name in ("limit", "frames", "height", "width", "stride", "threads"):
        if getattr(options, name) < 0:
            raise UserError(f"--{name} is {getattr(options, name)}; it must be 0 or more.")
    if options.frames and (options.frames < 9 or options.frames % 8 != 1):
        below = max(9, (options.frames - 1) // 8 * 8 + 1)
        raise UserError(
            f"--frames is {options.frames}; CogVideoX's autoencoder gives back as many frames as it was given for "
            f"8k + 1 only: take {below} or {below + 8}."
        )
    return options


def _refuse_unknown(unknown: list[str], known: list[str]) -> None:
    for argument in unknown:
        if argument.startswith("--"):
            flag = argument.partition("=")[0]
            close = difflib.get_close_matches(flag, known, n=2, cutoff=0.5)
            hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known[1:])}."
            raise UserError(f"finetune has no flag {flag}: {hint}")
    raise UserError(f"'{unknown[0]}' belongs to no flag; flags are written --name value.")
