"""Which folder holds which model: a family is a folder with ``family.json``, a CogVideoX folder, or a hub id.

No torch here. Every model ends as a local folder in its library's own format, with safetensors; the hub is asked
only for what is not on the disk.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from genreward_jax.cache import cache_dir
from genreward_jax.errors import UserError
from torch_bridge.hub import PAPER_CLIP, PAPER_DINO, is_hub_id, locate

EMBEDDED = "embedded-random-v2"
PAPER_FRAME_SIZE = 480

# Capability to the model that serves it.
MODEL_OF = {"encode_video": "vae", "embed_image": "clip", "embed_text": "clip", "embed_state": "dino"}
_CONFIG = {"vae": "config.json", "clip": "open_clip_config.json", "dino": "config.json"}


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
    """

    name: str
    folder: Path
    frame_size: int
    trained: bool
    sources: dict[str, str | Path]
    seeds: dict[str, int] = field(default_factory=dict)


def resolve(family: str, revision: str = "", say: Callable[[str], None] = print) -> Family:
    """Finds a family by folder or hub id; 'embedded' is made in the cache if it is not there yet.

    Raises:
        UserError: No such folder, no such id within reach, or a folder that is no family.
    """
    if family == "embedded":
        folder = cache_dir("models", EMBEDDED)
        if not folder.is_dir():
            say(f"Making the small random models in {folder} ...")
            from torch_bridge import embedded  # imports torch; only the bridge process and set-up come here

            embedded.make_in_cache()
        return _from_folder(folder)
    folder = Path(family).expanduser()
    if folder.is_dir():
        return _from_folder(folder)
    if not is_hub_id(family):
        raise UserError(f"model family {family!r} is no folder here and no hub id (owner/name): check --model.family")
    wanted = ["vae/config.json", "vae/*.safetensors", "transformer/config.json"]
    return _from_folder(locate(family, wanted, revision, needs=("vae/config.json",), say=say), name=family)


def _from_folder(folder: Path, name: str = "") -> Family:
    manifest = folder / "family.json"
    if manifest.is_file():
        try:
            text = json.loads(manifest.read_text())
            folders = dict(text["folders"])
            size, trained = int(text["frame_size"]), bool(text["trained"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{manifest} needs folders, frame_size and trained, but reading it gave {error!r}"
            ) from error
        sources = {kind: _folder_or_id(folder, str(entry), manifest) for kind, entry in folders.items()}
        return Family(text.get("name") or folder.name, folder, size, trained, sources, text.get("seeds", {}))
    if (folder / "vae" / "config.json").is_file():  # diffusers' own pipeline layout
        sources = {"vae": folder / "vae", "clip": PAPER_CLIP, "dino": PAPER_DINO}
        return Family(name or folder.name, folder, _pipeline_frame_size(folder), True, sources)
    raise UserError(
        f"{folder} is no model family: it holds neither family.json nor vae/config.json (a CogVideoX folder)"
    )


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
    return 8 * int(json.loads(config.read_text()).get("sample_height", PAPER_FRAME_SIZE // 8))


def model_folder(kind: str, source: str | Path, capability: str, say: Callable[[str], None] = print) -> Path:
    """The local folder of one model, fetched if it is a hub id, with its safetensors checked.

    Args:
        kind: 'vae', 'clip' or 'dino'.
        source: Folder or hub id.
        capability: What it is needed for; named in errors.

    Raises:
        UserError: Not there, or only weights in a format that runs code when opened (.bin, .pt, .ckpt).
    """
    if isinstance(source, Path):
        folder = source
    else:
        weights = "open_clip*.safetensors" if kind == "clip" else "*.safetensors"  # such hubs hold transformers' too
        patterns = ["*.json", "*.txt", weights]
        folder = locate(source, patterns, needs=(_CONFIG[kind],), purpose=capability, say=say)
    if not (folder / _CONFIG[kind]).is_file():
        raise UserError(f"{folder} has no {_CONFIG[kind]}, so it is no {kind} folder ({capability} needs one)")
    if not any(folder.glob("*.safetensors")):
        others = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
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
