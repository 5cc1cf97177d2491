"""Fetching from a hub of files on the loopback address, asked by processes of their own, in each of its moods."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.torch_bridge.fake_hub import BAD_TOKEN, GOOD_TOKEN, OTHER_TOKEN, Hub
from torch_bridge.hub_errors import reason

ROOT = Path(__file__).resolve().parents[2]
REPO = "owner/model"
LOCATE = """
import sys
from genreward_jax.errors import UserError
from torch_bridge.hub import MODEL, VAE, locate
part = {"vae": VAE, **{k: v for k, v in MODEL.items() if k != "vae"}}[sys.argv[2]]
try:
    print("FOLDER", locate(sys.argv[1], part.patterns, sys.argv[3], part.needs, "embed_state"))
except UserError as error:
    print("ERROR", error)
"""


@pytest.fixture
def hub(tmp_path):
    """A hub with one model: two weight files behind an index, and files that nobody wants."""
    folder = tmp_path / "repo"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    pieces = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    for name in pieces.values():
        (folder / name).write_bytes(os.urandom(300_000))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": pieces}))
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    with Hub({REPO: folder}) as hub:
        yield hub


def ask(hub, home, repo=REPO, kind="dino", revision="", token="", code=LOCATE, **environment):
    """What a process of its own is given or told by :func:`torch_bridge.hub.locate`."""
    done = subprocess.run(
        [sys.executable, "-c", code, repo, kind, revision],
        cwd=ROOT,
        env={**os.environ, **hub.environment(home, token), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return done.stdout


def error(*arguments, **options):
    lines = ask(*arguments, **options).strip().splitlines()
    assert lines[-1].startswith("ERROR "), lines
    return lines[-1]


def test_what_is_wanted_is_fetched_once_and_its_size_said_first(hub, tmp_path):
    said = ask(hub, tmp_path)
    assert f"{REPO}: 600 kB, of which 600 kB are to be fetched" in said
    folder = Path(said.split("FOLDER ")[1].strip())
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    }
    hub.asked.clear()
    again = ask(hub, tmp_path)
    assert Path(again.removeprefix("FOLDER ").strip()) == folder and not hub.asked


def test_a_piece_that_an_index_names_is_missed(hub, tmp_path):
    """A folder that lacks a piece of its weights is not taken for a whole model."""
    folder = Path(ask(hub, tmp_path).split("FOLDER ")[1].strip())
    (folder / "model-00002-of-00002.safetensors").resolve().unlink()
    (folder / "model-00002-of-00002.safetensors").unlink()
    hub.asked.clear()
    assert "FOLDER" in ask(hub, tmp_path)
    assert hub.fetched("model-00002-of-00002.safetensors") and not hub.fetched("model-00001-of-00002.safetensors")
    by_hand = tmp_path / "cache" / "models" / REPO
    shutil.copytree(hub.repos[REPO], by_hand)
    assert Path(ask(hub, tmp_path).removeprefix("FOLDER ").strip()) == by_hand
    (by_hand / "model-00001-of-00002.safetensors").unlink()
    assert Path(ask(hub, tmp_path).removeprefix("FOLDER ").strip()) == folder


def test_a_revision_that_was_asked_for(hub, tmp_path):
    hub.commits[REPO] = "2" * 40
    assert f"snapshots/{hub.newest(REPO)}" in ask(hub, tmp_path)
    assert f"snapshots/{'2' * 40}" in ask(hub, tmp_path, revision="2" * 40)
    said = error(hub, tmp_path, revision="1" * 40)
    assert f"has no revision {'1' * 40}: name a branch, tag or commit" in said and "hf download" not in said


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("", f"it is gated: accept its licence at https://huggingface.co/{REPO}, then `hf auth login` or HF_TOKEN"),
        (OTHER_TOKEN, "it is gated and your token has no access: accept its licence at"),
        (BAD_TOKEN, "the hub does not know your token: make one at"),
    ],
)
def test_a_gated_model(hub, tmp_path, token, said):
    """Refused before the first byte, with the page to go to."""
    hub.gated.add(REPO)
    assert said in error(hub, tmp_path, token=token) and not hub.fetched(".safetensors")


def test_a_gated_model_with_access(hub, tmp_path):
    hub.gated.add(REPO)
    assert "FOLDER" in ask(hub, tmp_path, token=GOOD_TOKEN)


def test_what_is_not_there(hub, tmp_path):
    assert "there is no such repository" in error(hub, tmp_path, repo="owner/other")
    assert "there is no such repository" in error(hub, tmp_path, repo="owner/other", token=GOOD_TOKEN)
    assert "holds no open_clip_config.json, open_clip*.safetensors" in error(hub, tmp_path, kind="clip")


def test_a_hub_in_trouble(hub, tmp_path):
    for status, said in ((503, "it answered 503): try again later"), (429, "left alone for a while (429)")):
        hub.failing = status
        assert said in error(hub, tmp_path)


def test_no_network(hub, tmp_path):
    """A closed port, an offline mode, and a hub that never answers: each at once or within its limit."""
    away = hub.environment(tmp_path) | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    said = error(hub, tmp_path, **away)
    assert "no connection to http://127.0.0.1:9: check the network" in said
    assert f"`hf download {REPO} --include '*.json'" in said and "bring that folder here" in said
    assert "HF_HUB_OFFLINE is set" in error(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert not hub.asked


def test_a_hub_that_never_answers(hub, tmp_path):
    hub.silent = 30.0
    code = LOCATE.replace("import sys", "import sys\nimport huggingface_hub\nasked = huggingface_hub.HfApi.model_info\n"
        "huggingface_hub.HfApi.model_info = lambda *a, **k: asked(*a, **k | {'timeout': 0.5})", 1)  # fmt: skip
    assert "took too long to answer" in error(hub, tmp_path, code=code)


def test_the_reason_is_looked_for_behind_what_the_library_says():
    """It wraps what happened in a sentence of its own."""
    from httpx2 import ConnectError
    from huggingface_hub.errors import LocalEntryNotFoundError

    wrapped = LocalEntryNotFoundError("An error happened while trying to locate the files on the Hub")
    wrapped.__cause__ = ConnectError("refused")
    assert reason(wrapped, REPO)[0].startswith("no connection to")
    assert reason(RuntimeError("first line\nsecond"), REPO) == ("first line", True)
    assert reason(RuntimeError(), REPO) == ("RuntimeError", True)


def test_a_cut_connection_is_taken_up_again(hub, tmp_path):
    """The rest is asked for by its range."""
    name = "model-00002-of-00002.safetensors"
    hub.cut = {name: 100_000}
    small = "import sys\nfrom huggingface_hub import constants\nconstants.DOWNLOAD_CHUNK_SIZE = 50_000"  # 10 MB
    folder = Path(ask(hub, tmp_path, code=LOCATE.replace("import sys", small, 1)).split("FOLDER ")[1].strip())
    assert (folder / name).read_bytes() == (hub.repos[REPO] / name).read_bytes()
    assert hub.fetched(name) in (["", "bytes=100000-"], ["", "bytes=50000-"])


def test_a_connection_that_breaks_for_good(hub, tmp_path):
    """A sentence, and what was finished is not fetched again."""
    name = "model-00002-of-00002.safetensors"
    hub.cut, hub.cut_always = {name: 1}, True
    assert "broke off: try again; finished files are kept" in error(hub, tmp_path)
    hub.cut, hub.cut_always = {}, False
    hub.asked.clear()
    assert "FOLDER" in ask(hub, tmp_path)
    assert hub.fetched(name) and not hub.fetched("model-00001-of-00002.safetensors")


def test_too_small_a_disk(hub, tmp_path):
    """Refused before anything is fetched, with both figures."""
    hub.extra[REPO] = {"more.safetensors": 10**15}
    said = error(hub, tmp_path)
    assert "needs 1000000.0 GB more on the disk of" in said and "HF_HUB_CACHE" in said and "GB are free" in said
    assert not hub.fetched(".safetensors")


def test_a_full_disk_and_a_folder_of_others(hub, tmp_path):
    """What the system says while a file is written."""
    for number, said in ((28, "the disk is full"), (30, "may not be written")):
        code = LOCATE.replace("import sys", f"import sys\nimport huggingface_hub.file_download as f\n"
            f"def full(*a, **k): raise OSError({number}, 'x', '/some/file')\n"
            "f._download_to_tmp_and_move = full", 1)  # fmt: skip
        assert said in error(hub, tmp_path, code=code)
