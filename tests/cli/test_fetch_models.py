"""``fetch-models`` as a user meets it, against a hub of files on the loopback address."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.torch_bridge.fake_hub import GOOD_TOKEN, Hub
from torch_bridge import hub as hubs

ROOT = Path(__file__).resolve().parents[2]
VIDEO, OLDER = "THUDM/CogVideoX-5b-I2V", "0" * 40
PARTS = ("scheduler", "tokenizer", "text_encoder", "transformer", "vae")


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"{}" if name.endswith(".json") else os.urandom(200_000))
    return folder


@pytest.fixture
def hub(tmp_path):
    """The paper's three models, at their pinned revisions, with files beside them that nobody wants."""
    configs = [f"{part}/config.json" for part in ("text_encoder", "transformer", "vae")]
    configs += ["model_index.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"]
    weights = [f"{part}/x.safetensors" for part in ("text_encoder", "transformer", "vae")]
    repos = {
        VIDEO: write(tmp_path / "video", *configs, *weights, "tokenizer/spiece.model", "README.md", "vae/x.bin"),
        hubs.PAPER_CLIP: write(
            tmp_path / "clip", "open_clip_config.json", "open_clip_model.safetensors", "model.safetensors", "x.bin"
        ),
        hubs.PAPER_DINO: write(tmp_path / "dino", "config.json", "model.safetensors", "preprocessor_config.json"),
    }
    with Hub(repos, {repo: hubs.PINNED[repo] for repo in repos}) as hub:
        yield hub


def call(hub, home, *argv, token="", verb=("-m", "genreward_jax", "fetch-models"), **environment):
    done = subprocess.run(
        [sys.executable, *verb, *argv],
        cwd=ROOT,
        env={**os.environ, **hub.environment(home, token), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_all_is_fetched_and_found_again_without_a_hub(hub, tmp_path):
    """Sizes and room first; the second call asks nobody; training then finds what it needs."""
    first = call(hub, tmp_path)
    assert first.returncode == 0, first.stderr
    assert f"missing  {VIDEO} at {hubs.PINNED[VIDEO][:12]}: 800 kB in 10 files" in first.stdout
    assert f"missing  {hubs.PAPER_CLIP} at {hubs.PINNED[hubs.PAPER_CLIP][:12]}: 200 kB in 2 files" in first.stdout
    assert "To fetch: 1.2 MB" in first.stdout and "GB are free" in first.stdout
    assert first.stdout.index("To fetch") < first.stdout.index("fetching")
    assert "100%" in first.stderr  # the progress bar
    got = {str(p.relative_to(tmp_path)) for p in (tmp_path / "hf").rglob("snapshots/*/**/*") if p.is_file()}
    assert not [name for name in got if name.endswith((".bin", ".md")) or "clip/model" in name]
    assert sum(name.endswith(".safetensors") for name in got) == 5
    hub.asked.clear()
    second = call(hub, tmp_path)
    assert second.returncode == 0 and "no hub was asked" in second.stdout and not hub.asked
    code = (
        "from torch_bridge import families, hub\n"
        f"family = families.resolve({VIDEO!r}, generates=True)\n"
        "for kind, source in family.sources.items(): print(families.model_folder(kind, source, kind))\n"
    )
    found = call(hub, tmp_path, verb=("-c", code), HF_HUB_OFFLINE="1")
    assert len(found.stdout.splitlines()) == 3 and not hub.asked, found.stderr


def test_without_generation_only_the_autoencoder_is_fetched(hub, tmp_path):
    """Twenty gigabytes stay on the hub; a later call fetches the rest and says what is here already."""
    done = call(hub, tmp_path, "--generation", "0")
    assert done.returncode == 0 and f"{VIDEO} at {hubs.PINNED[VIDEO][:12]}: 200 kB in 3 files" in done.stdout
    assert not [asked for asked in hub.asked if "text_encoder" in asked[1] or "transformer/x" in asked[1]]
    hub.asked.clear()
    rest = call(hub, tmp_path)
    assert rest.returncode == 0 and "800 kB in 10 files, of which 200 kB are here" in rest.stdout
    assert not hub.fetched("vae/x.safetensors") and f"here     {hubs.PAPER_CLIP}" in rest.stdout


def test_dry_fetches_nothing(hub, tmp_path):
    done = call(hub, tmp_path, "--dry", "1")
    assert done.returncode == 0 and "To fetch: 1.2 MB" in done.stdout
    assert not hub.fetched(".safetensors") and "fetching" not in done.stdout


def test_a_gated_model_is_said_before_the_rest_is_fetched(hub, tmp_path):
    hub.gated.add(hubs.PAPER_DINO)
    done = call(hub, tmp_path)
    assert done.returncode == 2 and f"missing  {VIDEO}" in done.stdout and not hub.fetched(".safetensors")
    assert f"accept its licence at https://huggingface.co/{hubs.PAPER_DINO}" in done.stderr
    assert call(hub, tmp_path, token=GOOD_TOKEN).returncode == 0


def test_the_disk_must_hold_all_of_them(hub, tmp_path):
    """Each would fit alone: refused before the first is fetched."""
    free = hubs.disk()[1]
    for repo in (VIDEO, hubs.PAPER_CLIP):
        hub.extra[repo] = {f"{'vae' if repo == VIDEO else 'open_clip'}/x2.safetensors": int(0.7 * free)}
    hub.extra[hubs.PAPER_CLIP] = {"open_clip_2.safetensors": int(0.7 * free)}
    done = call(hub, tmp_path)
    assert done.returncode == 2 and "HF_HUB_CACHE" in done.stderr and not hub.fetched(".safetensors")


def test_another_model_and_revision(hub, tmp_path):
    hub.repos["owner/video"] = hub.repos[VIDEO]
    hub.commits["owner/video"] = OLDER
    done = call(hub, tmp_path, "--model.family", "owner/video", "--model.revision", OLDER)
    assert done.returncode == 0 and f"owner/video at {OLDER[:12]}" in done.stdout
    missing = call(hub, tmp_path, "--model.family", "owner/video", "--model.revision", "v9")
    assert missing.returncode == 2 and "has no revision v9" in missing.stderr


def test_families_that_need_no_hub_and_those_that_stand_on_one(hub, tmp_path):
    """The embedded one; a folder whose parts are its own; one adapted from a hub's model."""
    assert "no hub was asked" in call(hub, tmp_path, "--model.family", "embedded").stdout
    family = '{"name": "x", "frame_size": 64, "trained": true, "folders": {"vae": "vae", "dino": "%s"}}'
    write(tmp_path / "own", "vae/config.json", "family.json").joinpath("family.json").write_text(
        family % hubs.PAPER_DINO
    )
    done = call(hub, tmp_path, "--model.family", str(tmp_path / "own"), "--dry", "1")
    assert "To fetch: 200 kB" in done.stdout and VIDEO not in done.stdout
    write(tmp_path / "adapted", "family.json").joinpath("family.json").write_text(
        f'{{"name": "y", "base": "{VIDEO}", "adapter": "transformer_lora"}}'
    )
    done = call(hub, tmp_path, "--model.family", str(tmp_path / "adapted"), "--dry", "1")
    assert "To fetch: 1.2 MB" in done.stdout and done.returncode == 0
    (tmp_path / "adapted" / "family.json").write_text('{"name": "y", "base": "../adapted"}')
    done = call(hub, tmp_path, "--model.family", str(tmp_path / "adapted"))
    assert done.returncode == 2 and "leads back to itself" in done.stderr
    assert not hub.fetched(".safetensors")


def test_mistakes_are_sentences(hub, tmp_path):
    for argv, said in (
        (["--model.family", "nothing"], "MODEL=nothing is no folder here and no hub id (owner/name)"),
        (["--generation", "maybe"], "invalid choice: 'maybe'"),
        (["--size"], "write fetch-models [--model.family"),
        (["--model.family", "owner/nothing"], "there is no such repository"),
    ):
        done = call(hub, tmp_path, *argv)
        assert done.returncode == 2 and said in done.stderr, done.stderr


def test_make_passes_each_variable_as_its_flag():
    done = subprocess.run(
        ["make", "-n", "fetch-models", "MODEL=a b", "REVISION=c", "GENERATION=0", "DRY=1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "fetch-models --model.family 'a b' --model.revision 'c' --generation '0' --dry '1'" in done.stdout
