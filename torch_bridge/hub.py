"""Models on the Hugging Face hub: which revision is meant, whether it is here, and getting what is not.

No torch here. A model that is here is used as it is; the network is asked only for what is not on the disk.
"""

import re
from collections.abc import Callable
from pathlib import Path

from genreward_jax.cache import cache_dir
from genreward_jax.errors import UserError

# Section 4.1 and the published code: what stands beside a CogVideoX that brings no CLIP and no DINO of its own.
PAPER_CLIP = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"  # open_clip's name for it: ViT-B-32, laion2b_s34b_b79k
PAPER_DINO = "facebook/dinov3-vits16plus-pretrain-lvd1689m"

# What is fetched when no revision is asked for. Read in public repositories that use them; not tried from here, where
# no hub can be reached.
PINNED = {
    "THUDM/CogVideoX-5b-I2V": "a6f0f4858a8395e7429d82493864ce92bf73af11",
    "zai-org/CogVideoX-5b-I2V": "a6f0f4858a8395e7429d82493864ce92bf73af11",
    PAPER_CLIP: "1a25a446712ba5ee05982a381eed697ef9b435cf",
    PAPER_DINO: "c93d816fc9e567563bc068f01475bec89cc634a6",
}
_GATED = {PAPER_DINO: "accept its licence at https://huggingface.co/{} and `hf auth login` first"}


def is_hub_id(name: str) -> bool:
    """Whether ``name`` looks like owner/name."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not name.startswith(".")


def locate(
    repo: str,
    patterns: list[str],
    revision: str = "",
    needs: tuple[str, ...] = (),
    purpose: str = "",
    say: Callable[[str], None] = print,
) -> Path:
    """A hub id's local folder: our cache's ``models/<id>``, the hub's own cache, and only then the network.

    Raises:
        UserError: Nowhere; the sentence holds the id, the command that fetches it and the folder to put it in.
    """
    own = cache_dir("models", *repo.split("/"))
    if _complete(own, patterns, needs):
        return own
    from huggingface_hub import model_info, snapshot_download
    from huggingface_hub.utils import LocalEntryNotFoundError

    # A copy that is already here is used, pinned or not, unless a revision was asked for.
    for wanted in (revision,) if revision else (PINNED.get(repo), None):
        try:
            folder = Path(snapshot_download(repo, revision=wanted, allow_patterns=patterns, local_files_only=True))
            if _complete(folder, patterns, needs):
                return folder
        except (LocalEntryNotFoundError, OSError, ValueError):
            pass
    revision = revision or PINNED.get(repo, "")
    say(f"Fetching the model {repo} from the Hugging Face hub (once) ...")
    try:
        # Asked once: a download of a pinned revision tries an unreachable hub for 23 s.
        model_info(repo, revision=revision or None, timeout=20)
        return Path(snapshot_download(repo, revision=revision or None, allow_patterns=patterns))
    except Exception as error:  # the hub's, the HTTP library's (which changed with the hub's release), the disk's
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        included = " ".join(f"--include '{p}'" for p in patterns)
        at = f" --revision {revision}" if revision else ""
        gate = f" ({_GATED[repo].format(repo)})" if repo in _GATED else ""
        raise UserError(
            f"the model {repo}{f' ({purpose})' if purpose else ''} is not on this disk and the hub did not give it: "
            f"where there is network{gate}, run `hf download {repo}{at} {included} --local-dir {own}`, or put its "
            f"files into {own} by hand ({why})"
        ) from error


def _complete(folder: Path, patterns: list[str], needs: tuple[str, ...]) -> bool:
    weights = [p for p in patterns if p.endswith(".safetensors")]
    return all((folder / name).is_file() for name in needs) and all(any(folder.glob(p)) for p in weights)
