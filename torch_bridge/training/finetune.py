"""Fine-tuning of a family's video model on a folder of videos (section 3.1, eq. 1 and 2; section 3.2 for the VAE).

    python -m genreward_jax finetune --data DIR --model embedded --out DIR [--part transformer|vae] [--flag value ...]
    accelerate launch --num_processes 4 -m torch_bridge.training.finetune --data ... (several GPUs or machines)

OUT holds ``family.json`` only when all is done, so a half-trained model is never taken for one; until then everything
lies in OUT/.work, and the same command goes on from there.
"""

import hashlib
import json
import os
import shlex
import shutil
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from genreward_jax.datasets import clips
from genreward_jax.datasets.clips import Episode
from genreward_jax.errors import UserError
from torch_bridge.training import options as options_lib
from torch_bridge.training import video_folder
from torch_bridge.training.options import Options

RECORD = "finetune.json"  # settings and figures of a finished run
IS_MAIN = os.environ.get("RANK", "0") == "0"  # accelerate's launcher says so before torch is there


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit code is 2 where the user can mend what went wrong, 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        options = options_lib.parse(argv)
        _check_out(options.out)
        episodes = _look(options)
        run(options, episodes)
    except UserError as error:
        if IS_MAIN:
            print(f"genreward_jax: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if IS_MAIN:
            print(f"\nStopped. This goes on: python -m genreward_jax finetune {shlex.join(argv)}", file=sys.stderr)
        return 130
    return 0


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; name a folder.")
    if out.is_dir() and any(out.iterdir()) and not ((out / ".work").is_dir() or (out / RECORD).is_file()):
        raise UserError(f"--out {out} holds other things; name a new folder.")


def _look(options: Options) -> list[Episode]:
    """The usable episodes of the data, before anything heavy is loaded."""
    found, bad = video_folder.find(options.data, options.camera, options.limit)
    good, more = video_folder.check(found, options.sizes, video_folder.bar_for("looking", IS_MAIN))
    said = video_folder.complain(options.data, len(good), bad + more, options.bad == "skip")
    if said and IS_MAIN:
        print(said, flush=True)
    return good


def run(options: Options, episodes: list[Episode]) -> Path:
    """Trains on episodes that were looked at; gives the folder of the result.

    Raises:
        UserError: A model that is not there or makes no videos, settings other than those of the run in OUT, or memory.
        KeyboardInterrupt: Stopped, and saved.
    """
    import torch

    from torch_bridge.repairs import repair_torchvision

    repair_torchvision()
    _quiet()
    if options.threads:
        torch.set_num_threads(options.threads)
    job = _prepare(options, episodes)
    if not _settle(job):
        return options.out
    result = job.work / "result"
    if job.state.is_main_process:
        shutil.rmtree(result, ignore_errors=True)
        result.mkdir(parents=True)
    from torch_bridge.training import autoencoder, transformer

    try:
        made = (autoencoder if options.part == "vae" else transformer).train(job, result)
    except torch.OutOfMemoryError as error:
        smaller = f"--micro {options.micro // 2}" if options.micro > 1 else "--checkpointing on"
        raise UserError(
            f"The GPU's memory is too small for this training: try {smaller}, or fewer --frames."
        ) from error
    if job.state.is_main_process:
        _finish(job, result, made)
    job.state.wait_for_everyone()
    return options.out


def _quiet() -> None:
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()


def _prepare(options: Options, episodes: list[Episode]) -> Any:
    """Finds the model, completes the options by its size, and says what will be done."""
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    from genreward_jax.progress import block
    from torch_bridge.families import resolve
    from torch_bridge.generation import making
    from torch_bridge.memory import size_of
    from torch_bridge.training.job import Job, shape_of, spatial_factor

    # accelerate joins processes on CPUs only if it is told that there is nothing else.
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    # Previews of a large model take their time, and the other processes wait for them.
    state = PartialState(cpu=cpu, timeout=timedelta(hours=3))
    transformer = options.part == "transformer"
    with state.main_process_first():
        family = resolve(options.model, generates=transformer)
    weights = size_of(family.part(options.part), "float32") // 4
    if not weights:
        raise UserError(f"There are no .safetensors in {family.part(options.part)}: name a whole model with --model.")
    large = weights >= options_lib.LARGE[options.part]
    made = making(family) if transformer else _clips_of_vae(family, large)
    options.complete(large)
    if options.fit == "auto":
        options = replace(options, fit=_fit(episodes, options, made))
    shape = shape_of(options, made, spatial_factor(family) * (_patch(family) if transformer else 1))
    made = replace(made, frames=shape.frames, height=shape.height, width=shape.width)
    job = Job(options, family, made, large, shape, options.out / ".work", state, episodes)
    rate = f"{options.lr:g}, {options.steps:,} steps of {options.batch}"
    rate += f" on each of {state.num_processes} processes" if state.num_processes > 1 else ""
    lines = [
        ("model", f"{family.name}: {weights / 1e6:,.2f} million weights, so the defaults are those of a "
                  f"{'large' if large else 'small'} model"),
        ("data", f"{len(episodes)} videos in {options.data}"),
        ("clips", f"{shape.frames} frames of {shape.width}x{shape.height}, "
                  + (f"one frame in {shape.stride}" if shape.stride else "evenly over the video") + f", {shape.fit}"),
        ("training", f"{options.kind}" + (f" of rank {options.rank}" if options.kind == "lora" else "")
                     + f", learning rate {rate}"),
        ("computing", f"{state.device}, {job.precision if job.precision != 'no' else 'float32'}"
                      + (", activations twice" if job.checkpointing else "")),
    ]  # fmt: skip
    _check_room(job)
    job.say("Fine-tuning\n" + block(lines))
    return job


def _fit(episodes: list[Episode], options: Options, made: Any) -> str:
    """Square videos are padded for an oblong model, as ``make goal`` pads a square first frame."""
    seen = clips.look(episodes[0].path)
    oblong = (options.height or made.height) != (options.width or made.width)
    return "pad" if seen.height == seen.width and oblong else "crop"


def _clips_of_vae(family: Any, large: bool) -> Any:
    """Short square clips: more of them in the same time, and the autoencoder sees no further in time anyhow."""
    from torch_bridge.generation import Making

    fps = float((family.generation or {}).get("fps", 8.0))
    size = family.frame_size
    return Making(9, 0, 1.0, size, size, fps, 0, "float32", fixed=False, large=large)


def _patch(family: Any) -> int:
    """Latent places that become one token, along a side."""
    return int(json.loads((family.part("transformer") / "config.json").read_text()).get("patch_size", 2))


def _check_room(job: Any) -> None:
    """Refuses a model whose weights, with what training keeps of each, do not fit; clips come on top.

    Raises:
        UserError: Too little memory.
    """
    from torch_bridge.hub import gigabytes
    from torch_bridge.memory import free_memory, size_of

    folder, device = job.family.part(job.options.part), job.state.device
    if job.options.kind == "lora":
        needed, mend = size_of(folder, str(job.frozen_dtype).removeprefix("torch.")), "--precision bf16, or "
    else:  # weights, gradients and AdamW's two moments in float32
        needed, mend = 4 * size_of(folder, "float32"), "--method lora, or " if job.options.kind == "full" else ""
    free = free_memory(device)
    if needed > free:
        raise UserError(
            f"Training this {job.options.part} ({job.options.kind}) needs {gigabytes(needed)} of memory for its "
            f"weights alone, and {gigabytes(free)} are free on {device}: take {mend}a machine with more."
        )


def _settle(job: Any) -> bool:
    """Compares with the run that is in OUT, if one has begun; False if that one is done.

    Raises:
        UserError: Its settings were others.
    """
    from torch_bridge.families import digest
    from torch_bridge.generation import model_digest

    out, files = job.options.out, (job.options.out / RECORD, job.work / "settings.json")
    mine = {**job.options.settings(), "videos and captions": _digest(job.kept), "processes": job.state.num_processes}
    vae = job.options.part == "vae"
    mine["weights"] = digest([job.family.part("vae")]) if vae else model_digest(job.family)
    begun = (job.losses.parent / "checkpoint.safetensors").is_file() or files[0].is_file()
    before = next((json.loads(path.read_text()) for path in files if path.is_file()), None)
    job.state.wait_for_everyone()
    if before is not None and begun:
        before = before.get("settings", before)
        changed = [f"{key}: {before.get(key)} -> {mine.get(key)}" for key in sorted(before.keys() | mine.keys())
                   if before.get(key) != mine.get(key)]  # fmt: skip
        if changed:
            raise UserError(
                f"'{out}' holds a run with other settings ({'; '.join(changed)}): give those, or another --out."
            )
        if (out / RECORD).is_file():
            job.say(f"'{out}' is done already, with these settings.")
            return False
    elif job.state.is_main_process:
        job.work.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(job.losses.parent, ignore_errors=True)  # a first validation, perhaps of other settings
        _write(job.work / "settings.json", json.dumps(mine, indent=2))
    return True


def _digest(episodes: list[Episode]) -> str:
    """Content key of a data set: names, captions, spans and files' sizes."""
    sha = hashlib.sha256()
    for e in episodes:
        sha.update(repr((e.name, e.text, e.start, e.end, e.path.stat().st_size)).encode())
    return sha.hexdigest()[:16]


def _finish(job: Any, result: Path, made: dict[str, Any]) -> None:
    """Puts the result in place, ``family.json`` last, and throws the work away."""
    from torch_bridge.families import SHIPPED

    options, out = job.options, job.options.out
    own = options.model not in SHIPPED and Path(options.model).is_dir()
    base = str(Path(options.model).resolve()) if own else options.model
    text = {"name": options.name or out.resolve().name, "base": base, **made}
    if options.part == "transformer" and (options.frames or options.height or options.width):
        text["generation"] = {"frames": job.made.frames, "height": job.made.height, "width": job.made.width}
    rows = [json.loads(line) for line in job.losses.read_text().splitlines()]
    settings = json.loads((job.work / "settings.json").read_text())
    figures = [row for row in rows if any(key.startswith("validation/") for key in row)]
    _write(result / RECORD, json.dumps({"settings": settings, "figures": figures}, indent=2) + "\n")
    shutil.copy(job.losses, result / "losses.jsonl")
    (result / "README.md").write_text(_card(job, text, settings, figures))
    _write(result / "family.json", json.dumps(text, indent=2) + "\n")
    last = ("family.json", RECORD)  # the first makes it a family, the second says that nothing is left to do
    for path in sorted(result.iterdir(), key=lambda path: (path.name in last, path.name)):
        target = out / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)
    shutil.rmtree(job.work, ignore_errors=True)
    job.say(f"Done: {out}. Use it with MODEL={out}, for example: make goal TASK=shelf_place MODEL={out}")


def _card(job: Any, text: dict[str, Any], settings: dict[str, Any], figures: list[dict]) -> str:
    """The result's README: data, settings, losses."""
    options = job.options
    names = sorted({key for row in figures for key in row if key != "step"})
    head = [
        f"| step | {' | '.join(name.removeprefix('validation/') for name in names)} |",
        "|---" * (len(names) + 1) + "|",
    ]
    body = [f"| {row['step']:,} | " + " | ".join(f"{row[name]:.5g}" for name in names) + " |" for row in figures]
    return "\n".join(
        [
            f"# {text['name']}",
            "",
            f"`{text['base']}`, its {options.part} fine-tuned ({options.kind}) by `python -m genreward_jax finetune`.",
            "Its licence is that of the base model, as far as that of the data allows.",
            "",
            "## Data",
            f"{len(job.kept)} videos of `{options.data}`; {len(job.held)} "
            + ("held back for validation." if job.held[0] not in job.kept else "of them validated on, none held back."),
            f"Clips: {job.shape.frames} frames of {job.shape.width}x{job.shape.height}.",
            "",
            "## Validation",
            "At fixed noise, on held-back videos; `samples/` shows some of them (true on the left, or above)."
            if options.part == "transformer"
            else "Peak signal-to-noise ratio in dB; `samples/` shows some videos (true on the left, or above).",
            "",
            *head,
            *body,
            "",
            "`losses.jsonl` has the training's own.",
            "",
            "## Settings",
            *(f"- {key}: {value}" for key, value in settings.items() if value not in ("", None)),
            "",
        ]
    )


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())
