"""``models-eval``: judges model families on episodes that no model was trained on, and writes the figures down."""

import json
import os
from pathlib import Path

from genreward_jax.arguments import Parser
from genreward_jax.cache import cache_dir
from genreward_jax.cli.models import run_module
from genreward_jax.demonstrations import render
from genreward_jax.errors import UserError


def run(argv: list[str]) -> int:
    """Renders the evaluation set where it is missing, measures each family and writes tables; gives the exit code."""
    from genreward_jax.evaluation import model_report
    from genreward_jax.evaluation import models as judged
    from torch_bridge.families import resolve
    from torch_bridge.generation import making

    parser = Parser("models-eval", "[--model NAME ...] [--out FOLDER] [--cards]", description=__doc__)
    parser.add_argument("--model", nargs="+", default=["embedded", "embedded+experts"], help="families, as for train")
    parser.add_argument("--out", type=Path, default=Path("models-eval"), help="tables, JSON and pictures go here")
    cached = cache_dir(f"evaluation-{render.FORMAT}")
    parser.add_argument("--data", type=Path, default=cached, help="the rendered evaluation set")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--cards", action="store_true", help="write the figures into the first family's model cards")
    args = parser.parse_args(argv)
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out {args.out} is a file; name a folder.")
    if args.workers < 1:
        raise UserError(f"--workers {args.workers} must be 1 or more.")
    for family in args.model:  # before minutes of rendering
        making(resolve(family, generates=True))
    rendering = ["-m", "genreward_jax.demonstrations.render", "--group", "evaluation"]
    run_module([*rendering, "--out", args.data, "--workers", args.workers])
    made = {}
    for family in args.model:
        folder = args.out / family.replace("/", "_")
        measuring = ["-m", "torch_bridge.measuring", "--family", family, "--data", args.data, "--out", folder]
        run_module([*measuring, "--threads", args.workers, "--device", args.device])
        experts = judged.read(folder)
        made[family] = judged.all_figures(experts)
        (folder / "figures.json").write_text(json.dumps(made[family], indent=2) + "\n")
        model_report.picture(folder / "generated.png", experts)
    print(model_report.table(made))
    (args.out / "table.md").write_text(model_report.markdown(made))
    print(f"Tables, figures and pictures are in {args.out}.")
    if args.cards:
        model_report.write_cards(args.model[0], made)
    return 0
