"""Which folder holds which model: a family is a folder with ``family.json``, a CogVideoX folder, or a hub id.

No torch here. Every model ends as a local folder in its library's own format, with safetensors; the hub is asked
only for what is not on the disk.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from genreward_jax.errors import UserError
from torch_bridge import hub
from torch_bridge.hub import MODEL, PAPER_CLIP, PAPER_DINO, is_hub_id, locate

SHIPPED = ("embedded", "embedded+experts")  # names of what ships with the project
WEIGHTS = Path(__file__).resolve().parent / "weights"  # and where it is
PAPER_FRAME_SIZE = 480

# Capability to the model that serves it.
MODEL_OF = {"encode_video": "vae", "embed_image": "clip", "embed_text": "clip"}
MODEL_OF |= {"embed_state": "dino", "embed_regions": "dino"}
MODEL_OF |= {"embed_video": "video_text", "embed_video_text": "video_text"}
MODEL_OF |= {"denoise_error": "diffusion", "next_frame_log_likelihood": "diffusion"}
_CONFIG = {"vae": "config.json", "clip": "open_clip_config.json", "dino": "config.json"}
_CONFIG |= {"video_text": "config.json", "diffusion": "model_index.json"}
OWN = ("video_text", "diffusion")  # models that a family need not name: its CLIP and its pipeline stand in for them
# What a diffusers pipeline consists of; the autoencoder alone is what the reward needs of it.
PIPELINE = ("transformer", "text_encoder", "tokenizer", "scheduler", "vae")


@dataclass
class Family:
    """Where the models of one family are.

    Attributes:
        name: What to call it in logs.
        folder: Its own folder.
        frame_size: Height and width in pixels at which it wants frames.
        trained: False for random weights.
        sources: 'vae', 'clip', 'dino' to a folder, or a hub id that :func:`torch_bridge.hub.locate` has yet to find.
        seeds: Seeds of a random family, for the record.
        pipeline: diffusers' pipeline folder, from which goal videos are made; without a transformer in it none are.
        replaced: Parts of the pipeline that are taken from elsewhere (full fine-tuning), by name.
        adapters: LoRA folders for the transformer, laid over it in turn.
        generation: The family's own way of making a video (frames, steps, guidance, width, height, fps, max_text);
            None for a CogVideoX as its makers publish it ('large' where only some of it is said).
    """

    name: str
    folder: Path
    frame_size: int
    trained: bool
    sources: dict[str, str | Path]
    seeds: dict[str, int] = field(default_factory=dict)
    pipeline: Path = Path()
    replaced: dict[str, Path] = field(default_factory=dict)
    adapters: tuple[Path, ...] = ()
    generation: dict[str, Any] | None = None

    def part(self, name: str) -> Path:
        """Folder of one of :data:`PIPELINE`'s parts, there or not."""
        return self.replaced.get(name, self.pipeline / name)


def resolve(
    family: str, revision: str = "", say: Callable[[str], None] = print, generates: bool = False, _above: tuple = ()
) -> Family:
    """Finds a family by name, folder or hub id.

    Args:
        family: 'embedded', 'embedded+experts', a folder, or a hub id.
        revision: Of a hub id; '' takes the pinned one.
        say: Told what takes a while.
        generates: Fetch also what only generation needs (gigabytes), where the family is on the hub.

    Raises:
        UserError: No such folder, no such id within reach, or a folder that is no family.
    """
    if family in SHIPPED:
        folder = WEIGHTS / family
        if not folder.is_dir():
            raise UserError(f"the model family {family!r} is not in this checkout: {folder} is missing")
        return _from_folder(folder, "", (revision, say, generates, _above))
    folder = Path(family).expanduser()
    if folder.is_dir():
        return _from_folder(folder, "", (revision, say, generates, _above))
    if not is_hub_id(family):
        raise UserError(f"model family {family!r} is no folder here and no hub id (owner/name): check --model.family")
    part = hub.PIPELINE if generates else hub.VAE
    found = locate(family, part.patterns, revision, needs=part.needs, say=say)
    return _from_folder(found, family, (revision, say, generates, _above))


def _from_folder(folder: Path, name: str, asked: tuple) -> Family:
    manifest = folder / "family.json"
    if manifest.is_file():
        text = _read_json(manifest)
        if "base" in text:
            return _adapted(folder, text, asked)
        try:
            folders = dict(text["folders"])
            size, trained = int(text["frame_size"]), bool(text["trained"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{manifest} needs folders, frame_size and trained, but reading it gave {error!r}"
            ) from error
        sources = {kind: _folder_or_id(folder, str(entry), manifest) for kind, entry in folders.items()}
        vae = sources.get("vae")
        replaced = {"vae": vae} if isinstance(vae, Path) else {}
        family = Family(text.get("name") or folder.name, folder, size, trained, sources, text.get("seeds", {}))
        return replace(family, pipeline=folder, replaced=replaced, generation=text.get("generation"))
    if (folder / "vae" / "config.json").is_file():  # diffusers' own pipeline layout
        sources = {"vae": folder / "vae", "clip": PAPER_CLIP, "dino": PAPER_DINO}
        return Family(name or folder.name, folder, _pipeline_frame_size(folder), True, sources, pipeline=folder)
    raise UserError(
        f"{folder} is no model family: it holds neither family.json nor vae/config.json (a CogVideoX folder)"
    )


def _adapted(folder: Path, text: dict[str, Any], asked: tuple) -> Family:
    """A family that says what is different from its base: an adapter, or parts in place of the base's own."""
    revision, say, generates, above = asked
    manifest, base = folder / "family.json", str(text["base"])
    if folder.resolve() in above:
        raise UserError(
            f"{manifest} names a base that leads back to itself ({base!r}): name the model it was made from"
        )
    beside = (folder / base).is_dir() and base not in SHIPPED
    found = resolve(str(folder / base) if beside else base, revision, say, generates, (*above, folder.resolve()))
    replaced, adapters = dict(found.replaced), found.adapters
    for kind, entry in text.get("folders", {}).items():
        if kind not in PIPELINE or not (folder / str(entry)).is_dir():
            raise UserError(f"{manifest} names {entry!r} as its {kind}, which is no folder beside it")
        replaced[kind] = folder / str(entry)
    if text.get("adapter"):
        adapter = folder / str(text["adapter"])
        if not any(adapter.glob("*.safetensors")):
            raise UserError(f"{manifest} names the adapter {text['adapter']!r}, but {adapter} holds no .safetensors")
        adapters = (*adapters, adapter)
    generation = found.generation
    if "generation" in text:
        generation = {**(found.generation or {"large": True}), **text["generation"]}
    return replace(
        found,
        name=text.get("name") or folder.name,
        folder=folder,
        trained=bool(text.get("trained", found.trained)),
        sources={**found.sources, **{kind: path for kind, path in replaced.items() if kind in _CONFIG}},
        replaced=replaced,
        adapters=adapters,
        generation=generation,
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        text = json.loads(path.read_text())
        if not isinstance(text, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}): put the model's own file there") from error
    return text


def _folder_or_id(folder: Path, entry: str, manifest: Path) -> str | Path:
    if (folder / entry).is_dir():
        return folder / entry
    if is_hub_id(entry):
        return entry
    raise UserError(f"{manifest} names {entry!r}, which is no folder beside it and no hub id (owner/name)")


def _pipeline_frame_size(folder: Path) -> int:
    """Height in pixels that a CogVideoX transformer was trained at; its configuration counts latent rows of 8."""
    config = folder / "transformer" / "config.json"
    if not config.is_file():
        return PAPER_FRAME_SIZE
    text = _read_json(config)
    height = 8 * int(text.get("sample_height", PAPER_FRAME_SIZE // 8))
    # CogVideoX 1.5 takes any size, and names the largest that its positions reach (2,400).
    return min(height, PAPER_FRAME_SIZE) if text.get("patch_size_t") else height


def replaced_sources(models: dict[str, str]) -> dict[str, str | Path]:
    """Folders, or hub ids still to be found, of models that stand in place of a family's own.

    Raises:
        UserError: Neither a folder that is there nor a hub id.
    """
    found: dict[str, str | Path] = {}
    for kind, name in models.items():
        folder = Path(name).expanduser()
        if not folder.is_dir() and not is_hub_id(name):
            raise UserError(f"--model.{kind} is {name!r}, which is no folder here and no hub id (owner/name)")
        found[kind] = folder if folder.is_dir() else name
    return found


def model_folder(kind: str, source: str | Path, capability: str, say: Callable[[str], None] = print) -> Path:
    """The local folder of one model, fetched if it is a hub id, with its safetensors checked.

    Args:
        kind: 'vae', 'clip', 'dino', 'video_text' or 'diffusion'.
        source: Folder or hub id.
        capability: What it is needed for; named in errors.

    Raises:
        UserError: Not there, or only weights in a format that runs code when opened (.bin, .pt, .ckpt).
    """
    if isinstance(source, Path):
        folder = source
    else:
        folder = locate(source, MODEL[kind].patterns, needs=MODEL[kind].needs, purpose=capability, say=say)
    if not (folder / _CONFIG[kind]).is_file():
        raise UserError(f"{folder} has no {_CONFIG[kind]}, so it is no {kind} folder ({capability} needs one)")
    if not any(folder.glob("*.safetensors" if kind != "diffusion" else "*/*.safetensors")):
        others = sorted(p.name for p in folder.rglob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
        found = f"only {', '.join(others)}, which may run code when opened" if others else "no weights"
        raise UserError(f"{folder} has {found}: put the model's .safetensors file there ({capability} needs it)")
    return folder


def digest(folders: list[Path]) -> str:
    """Content key of model folders: configurations in full, of each weight file its size, header and 64 samples.

    Hashing gigabytes at every start would cost seconds; another training changes every part of a file.
    """
    sha = hashlib.sha256()
    for folder in folders:
        for path in sorted(p for p in folder.iterdir() if p.suffix in (".json", ".safetensors", ".txt")):
            sha.update(path.name.encode())
            if path.suffix != ".safetensors":
                sha.update(path.read_bytes())
                continue
            size, chunk = path.stat().st_size, 1 << 16
            sha.update(str(size).encode())
            with path.open("rb") as file:
                for start in sorted({max(0, (size - chunk) * i // 63) for i in range(64)}):
                    file.seek(start)
                    sha.update(file.read(chunk))
    return sha.hexdigest()[:16]
