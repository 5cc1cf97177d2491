"""Models on the Hugging Face hub: which revision is meant, whether it is here, how large it is, and getting it.

No torch here. A model that is here is used as it is; the network is asked only for what is not on the disk.
"""

import fnmatch
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from genreward_jax.cache import cache_dir
from genreward_jax.errors import UserError
from torch_bridge.hub_errors import reason

# Section 4.1 and the published code: what stands beside a CogVideoX that brings no CLIP and no DINO of its own.
PAPER_CLIP = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"  # open_clip's name for it: ViT-B-32, laion2b_s34b_b79k
PAPER_DINO = "facebook/dinov3-vits16plus-pretrain-lvd1689m"

# What is fetched when no revision is asked for. Read in public repositories that use them (docs/models.md); not tried
# from here, where no hub can be reached.
PINNED = {
    "THUDM/CogVideoX-5b-I2V": "a6f0f4858a8395e7429d82493864ce92bf73af11",
    "zai-org/CogVideoX-5b-I2V": "a6f0f4858a8395e7429d82493864ce92bf73af11",
    "THUDM/CogVideoX1.5-5B-I2V": "46c90528707aebbe69066390b4fe7e7d24c9c2a4",
    "zai-org/CogVideoX1.5-5B-I2V": "46c90528707aebbe69066390b4fe7e7d24c9c2a4",
    PAPER_CLIP: "1a25a446712ba5ee05982a381eed697ef9b435cf",
    PAPER_DINO: "c93d816fc9e567563bc068f01475bec89cc634a6",
}


@dataclass(frozen=True)
class Part:
    """Which files of a repository are wanted: patterns to fetch, and names without which it is not there."""

    patterns: tuple[str, ...]
    needs: tuple[str, ...]


# Safetensors, configurations and tokenizers only. A repository may hold the same model for other libraries too.
VAE = Part(("vae/config.json", "vae/*.safetensors", "transformer/config.json"), ("vae/config.json",))
PIPELINE = Part(
    (
        "model_index.json",
        "*/*.json",
        "tokenizer/*.model",
        "text_encoder/*.safetensors",
        "transformer/*.safetensors",
        "vae/*.safetensors",
    ),
    (
        "model_index.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer_config.json",
        "text_encoder/config.json",
        "transformer/config.json",
        "vae/config.json",
    ),
)
MODEL = {  # by kind, as `families` names them; one model a repository
    "vae": Part(("*.json", "*.txt", "*.safetensors"), ("config.json",)),
    "clip": Part(("*.json", "*.txt", "open_clip*.safetensors"), ("open_clip_config.json",)),
    "dino": Part(("*.json", "*.txt", "*.safetensors"), ("config.json",)),
    "video_text": Part(("*.json", "*.txt", "*.safetensors"), ("config.json",)),
    "diffusion": Part(  # without the safety checker and the weights in half precision
        (
            "model_index.json",
            "*/*.json",
            "*/*.txt",
            "unet/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.safetensors",
            "text_encoder/model.safetensors",
        ),
        ("model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json"),
    ),  # fmt: skip
}


@dataclass(frozen=True)
class Listing:
    """What a repository holds of the wanted files.

    Attributes:
        repo: Hub id.
        revision: As it was asked for or is pinned; '' is the newest.
        commit: The same, resolved.
        sizes: Wanted file to bytes.
        missing: Bytes that are not on this disk.
    """

    repo: str
    revision: str
    commit: str
    sizes: dict[str, int]
    missing: int


def is_hub_id(name: str) -> bool:
    """Whether ``name`` looks like owner/name."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not name.startswith(".")


def locate(
    repo: str,
    patterns: list[str] | tuple[str, ...],
    revision: str = "",
    needs: tuple[str, ...] = (),
    purpose: str = "",
    say: Callable[[str], None] = print,
) -> Path:
    """A hub id's local folder: our cache's ``models/<id>``, the hub's own cache, and only then the network.

    Raises:
        UserError: Nowhere; the sentence holds the id, why, the command that fetches it and the folder to put it in.
    """
    part = Part(tuple(patterns), needs)
    folder = find(repo, part, revision)
    if folder is not None:
        return folder
    say(f"Fetching the model {repo} from the Hugging Face hub (once) ...")
    listing = look(repo, part, revision, purpose)
    say(f"{repo}: {gigabytes(sum(listing.sizes.values()))}, of which {gigabytes(listing.missing)} are to be fetched")
    return fetch(listing, part, purpose)


def find(repo: str, part: Part, revision: str = "") -> Path | None:
    """The local folder that holds the whole part, or None; asks no hub.

    A copy that is already here is used, pinned or not, unless a revision was asked for.
    """
    own = own_folder(repo)
    if _complete(own, part):
        return own
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import LocalEntryNotFoundError

    for wanted in (revision,) if revision else (PINNED.get(repo), None):
        try:
            folder = Path(
                snapshot_download(repo, revision=wanted, allow_patterns=list(part.patterns), local_files_only=True)
            )
            if _complete(folder, part):
                return folder
        except (LocalEntryNotFoundError, OSError, ValueError):
            pass
    return None


def look(repo: str, part: Part, revision: str = "", purpose: str = "") -> Listing:
    """Asks the hub what it holds and whether it may be fetched; fetches nothing.

    Raises:
        UserError: No such repository or revision, no access to it, no network, or nothing in it that is wanted.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    api = HfApi()
    revision = revision or PINNED.get(repo, "")
    try:
        # Asked once and with a limit: a download of a pinned revision tries an unreachable hub for 23 s.
        info = api.model_info(repo, revision=revision or None, files_metadata=True, timeout=20)
        if info.gated:
            api.auth_check(repo)  # a gated repository shows its list of files to everybody
    except Exception as error:  # the hub's, the HTTP library's (which changed with the hub's release), the disk's
        raise _not_given(repo, part, revision, purpose, error) from error
    files = {file.rfilename: file.size or 0 for file in info.siblings or []}
    sizes = {name: size for name, size in files.items() if _wanted(name, part.patterns)}
    lacking = [name for name in part.needs if name not in sizes]
    lacking += [p for p in part.patterns if p.endswith(".safetensors") and not fnmatch.filter(sizes, p)]
    if lacking:
        at = f" at revision {revision}" if revision else ""
        raise UserError(
            f"{repo}{at} holds no {', '.join(lacking)}, which {purpose or 'this model'} needs: name another repository "
            "or revision"
        )
    here = [n for n in sizes if isinstance(try_to_load_from_cache(repo, n, revision=info.sha), str)]
    return Listing(repo, revision, info.sha, sizes, sum(sizes.values()) - sum(sizes[name] for name in here))


def fetch(listing: Listing, part: Part, purpose: str = "") -> Path:
    """Downloads what is missing into the hub's own cache, with the hub library's progress bar, and gives the folder.

    What an interrupted call has finished, file by file, is not fetched again.

    Raises:
        UserError: Too little disk, or the hub stopped giving.
    """
    check_disk([listing])
    from huggingface_hub import snapshot_download

    try:
        # By the revision's own name: the hub's cache keeps what it stood for, and finds it again without network.
        folder = snapshot_download(listing.repo, revision=listing.revision or None, allow_patterns=list(part.patterns))
    except Exception as error:  # as above
        raise _not_given(listing.repo, part, listing.revision, purpose, error) from error
    return Path(folder)


def check_disk(listings: list[Listing]) -> None:
    """Refuses when the hub's cache has no room for what is missing.

    Raises:
        UserError: Too little disk.
    """
    missing, (folder, free) = sum(listing.missing for listing in listings), disk()
    if missing > free:
        names = " and ".join(listing.repo for listing in listings if listing.missing)
        raise UserError(
            f"{names} needs {gigabytes(missing)} more on the disk of {folder}, where {gigabytes(free)} are free: free "
            "some, or name a folder on another disk with HF_HUB_CACHE=/other/disk/hub"
        )


def disk() -> tuple[Path, int]:
    """The hub's own cache and the bytes that are free on its disk."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE).expanduser()
    present = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return folder, shutil.disk_usage(present).free


def own_folder(repo: str) -> Path:
    """Where a copy made by hand is looked for first."""
    return cache_dir("models", *repo.split("/"))


def gigabytes(size: float) -> str:
    """Bytes in words, with as many figures as say something."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 1e3:.0f} kB" if size else "0 bytes"


def _not_given(repo: str, part: Part, revision: str, purpose: str, error: Exception) -> UserError:
    why, elsewhere = reason(error, repo, revision)
    text = (
        f"the model {repo}{f' ({purpose})' if purpose else ''} is not on this disk and the hub did not give it: {why}"
    )
    if elsewhere:
        included = " ".join(f"--include '{p}'" for p in part.patterns)
        at = f" --revision {revision}" if revision else ""
        gate = f" (accept its licence at https://huggingface.co/{repo} first)" if repo == PAPER_DINO else ""
        text += (
            f"; or, where there is network{gate}, run `hf download {repo}{at} {included} --local-dir "
            f"{own_folder(repo)}` and bring that folder here"
        )
    return UserError(text)


def _wanted(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _complete(folder: Path, part: Part) -> bool:
    """Whether every needed file is there, some weights for each pattern, and every piece that an index names."""
    weights = [p for p in part.patterns if p.endswith(".safetensors")]
    return (
        all((folder / name).is_file() for name in part.needs)
        and all(any(folder.glob(p)) for p in weights)
        and all(_pieces_are_there(index) for p in weights for index in folder.glob(f"{p}.index.json"))
    )


def _pieces_are_there(index: Path) -> bool:
    try:
        named = set(json.loads(index.read_text())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return all((index.parent / name).is_file() for name in named)
