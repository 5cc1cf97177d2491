"""``fetch-models``: gets a model family's files from the Hugging Face hub ahead of time, and says first how large."""

import json
from pathlib import Path

from genreward_jax.arguments import Parser
from genreward_jax.errors import UserError
from torch_bridge import families, hub

DEFAULT = "THUDM/CogVideoX-5b-I2V"
USAGE = "[--model.family ID_OR_FOLDER] [--model.revision REVISION] [--generation 0|1] [--dry 0|1]"


def run(argv: list[str]) -> int:
    """Lists, then fetches what is missing; gives the exit code. Asks no hub when all is here."""
    parser = Parser("fetch-models", USAGE, description=__doc__)
    parser.add_argument("--model.family", dest="family", default=DEFAULT, help="hub id or folder")
    parser.add_argument("--model.revision", dest="revision", default="", help="of the video model; '' is the pinned")
    parser.add_argument(
        "--generation", choices=("0", "1"), default="1", help="0 leaves out what only making goal videos needs"
    )
    parser.add_argument("--dry", choices=("0", "1"), default="0", help="1 says what would be fetched and stops")
    args = parser.parse_args(argv)
    wanted = parts_of(args.family, args.revision, args.generation == "1")
    missing = {}
    for repo, (part, revision) in wanted.items():
        folder = hub.find(repo, part, revision)
        if folder is None:
            missing[repo] = (part, revision)
        else:
            print(f"here     {repo}: {folder}", flush=True)
    if not missing:
        print(f"All that {args.family} needs is here; no hub was asked.")
        return 0
    listings = _look(missing)
    hub.check_disk(list(listings.values()))  # all of them together, before the first byte
    if args.dry == "1":
        return 0
    for repo, listing in listings.items():
        print(f"fetching {repo} ...", flush=True)
        print(f"here     {repo}: {hub.fetch(listing, missing[repo][0])}", flush=True)
    print(f"All that {args.family} needs is here.")
    return 0


def parts_of(family: str, revision: str, generation: bool) -> dict[str, tuple[hub.Part, str]]:
    """Hub id to what of it a family needs and its revision; empty when it needs no hub.

    Raises:
        UserError: Neither a folder here nor a hub id, or a folder that is no family.
    """
    family = _base(family)
    if family in families.SHIPPED:
        return {}
    if not Path(family).expanduser().is_dir():
        if not hub.is_hub_id(family):
            raise UserError(f"MODEL={family} is no folder here and no hub id (owner/name), such as {DEFAULT}")
        wanted = {family: (hub.PIPELINE if generation else hub.VAE, revision)}
        return wanted | {hub.PAPER_CLIP: (hub.MODEL["clip"], ""), hub.PAPER_DINO: (hub.MODEL["dino"], "")}
    sources = families.resolve(family).sources.items()
    return {source: (hub.MODEL[kind], "") for kind, source in sources if isinstance(source, str)}


def _base(family: str) -> str:
    """The model that an adapted family (a folder that says only what is different) stands on."""
    for _ in range(10):  # a longer chain leads back to itself
        if family in families.SHIPPED:
            return family
        folder = Path(family).expanduser()
        manifest = folder / "family.json"
        try:
            base = json.loads(manifest.read_text())["base"] if manifest.is_file() else None
        except (OSError, ValueError, KeyError, TypeError):
            base = None  # no adapted family; a broken one is reported where it is resolved
        if not base:
            return family
        beside = (folder / base).is_dir() and base not in families.SHIPPED
        family = str(folder / base) if beside else str(base)
    raise UserError(f"{family}/family.json names a base that leads back to itself: name the model it was made from")


def _look(missing: dict[str, tuple[hub.Part, str]]) -> dict[str, hub.Listing]:
    """Asks the hub about each and says its size, then about the disk; a refusal is raised when all are listed."""
    listings, refused = {}, None
    for repo, (part, revision) in missing.items():
        try:
            listing = hub.look(repo, part, revision)
        except UserError as error:
            print(f"refused  {repo}", flush=True)
            refused = refused or error
            continue
        whole = sum(listing.sizes.values())
        there = "" if listing.missing == whole else f", of which {hub.gigabytes(whole - listing.missing)} are here"
        print(
            f"missing  {repo} at {listing.commit[:12]}: {hub.gigabytes(whole)} in {len(listing.sizes)} files{there}",
            flush=True,
        )
        listings[repo] = listing
    folder, free = hub.disk()
    if listings:
        total = hub.gigabytes(sum(listing.missing for listing in listings.values()))
        without = ", without what was refused" if refused else ""
        print(f"To fetch: {total}{without}, into {folder}, where {hub.gigabytes(free)} are free.", flush=True)
    if refused:
        raise refused
    return listings
