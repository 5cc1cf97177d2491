"""A run behind an fsspec URL: whole at any moment, equal in the end, and never written by who has lost it."""

import itertools
import json

import fsspec
import pytest

from genreward_jax.errors import UserError
from genreward_jax.sweep.claim import Claim
from genreward_jax.sweep.mirror import Mirror
from genreward_jax.sweep.storage import Store, join

COUNT = itertools.count()


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path):
    return f"memory://sweeps{next(COUNT)}/run" if request.param == "memory" else f"file://{tmp_path}/store/run"


def save(folder, step):
    """A checkpoint as checkpoint.py leaves it."""
    chunks = [f"chunk{number}.npz" for number in range(step - 1, step + 1)]
    (folder / "replay").mkdir(parents=True, exist_ok=True)
    for chunk in chunks:
        (folder / "replay" / chunk).write_text(chunk)
    target = folder / "checkpoint" / f"{step:012d}"
    target.mkdir(parents=True, exist_ok=True)
    (target / "state.json").write_text(json.dumps({"replay": chunks}))
    (folder / "checkpoint" / "latest").write_text(target.name)
    for other in (folder / "checkpoint").glob("0*"):
        if other != target:
            (other / "state.json").unlink()
            other.rmdir()
    for chunk in (folder / "replay").iterdir():
        if chunk.name not in chunks:
            chunk.unlink()


def whole(url):
    """The step of the run that lies there, with all that its checkpoint refers to; None for no checkpoint."""
    store = Store(url)
    pointer = store.read("checkpoint/latest")
    if pointer is None:
        return None
    for chunk in json.loads(store.read(f"checkpoint/{pointer}/state.json"))["replay"]:
        assert store.read(f"replay/{chunk}") == chunk
    return store.step()


def files(folder):
    return {file.relative_to(folder).as_posix(): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_what_goes_up_comes_down_and_nothing_else(url, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    mirror = Mirror(here, url)
    mirror.down()
    assert not here.exists()
    for step in (1, 2):
        save(here, step)
        (here / "scores.jsonl").write_text("line\n" * step)
        mirror.up()
    (here / "run.lock").write_text("12")
    (here / ".half.tmp").write_text("half")
    mirror.up()
    save(there, 9)  # of an earlier life on that machine
    Mirror(there, url).down()
    want = {name: text for name, text in files(here).items() if name not in ("run.lock", ".half.tmp")}
    assert files(there) == want and Store(url).scores() == []
    assert not list(tmp_path.glob(".mirror-*"))


def test_another_machine_goes_on_and_takes_away_what_is_old(url, tmp_path):
    first = Mirror(tmp_path / "first", url)
    first.down()
    save(tmp_path / "first", 3)
    first.up()
    second = Mirror(tmp_path / "second", url)
    second.down()
    save(tmp_path / "second", 4)
    second.up()
    assert whole(url) == 4
    last = Mirror(tmp_path / "last", url)
    last.down()
    assert sorted(files(tmp_path / "last")) == sorted(files(tmp_path / "second"))


def counting(mirror, limit):
    """Lets the mirror write so many files and no more, as a kill would."""
    left = itertools.count()
    mirror.may = lambda: next(left) < limit


def test_a_run_is_whole_wherever_the_bringing_up_is_broken_off(url, tmp_path):
    seen = []
    for limit in range(12):
        here, place = tmp_path / f"here{limit}", f"{url}{limit}"
        mirror = Mirror(here, place)
        mirror.down()
        save(here, 1)
        mirror.up()
        save(here, 2)
        counting(mirror, limit)
        mirror.up()
        seen.append(whole(place))
    assert seen[0] == 1 and seen[-1] == 2 and seen == sorted(seen)


def test_only_what_has_changed_goes_up(url, tmp_path, monkeypatch):
    here = tmp_path / "here"
    mirror = Mirror(here, url)
    mirror.down()
    save(here, 1)
    mirror.up()
    sent = []
    put = mirror.fs.put_file
    monkeypatch.setattr(mirror.fs, "put_file", lambda a, b, **kw: (sent.append(b), put(a, b, **kw)))
    (here / "scores.jsonl").write_text("{}\n")
    mirror.up()
    assert [name.rpartition("/")[2] for name in sent] == ["scores.jsonl"]


def test_a_checkpoint_that_is_replaced_meanwhile_is_left_for_the_new_one(url, tmp_path, monkeypatch):
    from genreward_jax.sweep import mirror as module

    here = tmp_path / "here"
    mirror = Mirror(here, url)
    mirror.down()
    save(here, 1)
    link, begun = module._link, []

    def slow(file, target):
        link(file, target)
        if not begun:
            begun.append(True)
            save(here, 2)

    monkeypatch.setattr(module, "_link", slow)
    mirror.up()
    assert whole(url) == 2 and "checkpoint/000000000001/state.json" not in mirror.known


def test_an_output_is_one_commands_at_a_time(url, monkeypatch):
    from genreward_jax.sweep import claim as module

    first, second = Claim(url), Claim(url)
    first.take()
    with pytest.raises(UserError, match=r"Another sweep is at work in .* \(process \d+ on .*\)"):
        second.take()
    first.drop()
    second.take()
    assert Store(url).read("sweep.json")
    first.drop()  # no longer its own
    assert second.renew() and Store(url).read("sweep.json")
    monkeypatch.setattr(module, "RENEW_S", 0)
    third = Claim(url)
    third._write()  # a command on another machine that thought it dead
    assert not second.renew() and third.renew()
    third.drop()
    assert Store(url).read("sweep.json") is None


def test_a_dead_commands_claim_holds_nobody_up(tmp_path):
    claim = {"token": "x", "host": __import__("socket").gethostname(), "pid": 2**22 + 1, "began": 1.0, "time": 9e9}
    (tmp_path / "sweep.json").write_text(json.dumps(claim))
    Claim(str(tmp_path)).take()
    (tmp_path / "sweep.json").write_text(json.dumps({**claim, "host": "elsewhere", "time": 1.0}))
    Claim(str(tmp_path)).take()
    (tmp_path / "sweep.json").write_text(json.dumps({**claim, "host": "elsewhere"}))
    with pytest.raises(UserError, match="on elsewhere"):
        Claim(str(tmp_path)).take()


def test_a_store_that_there_is_not_is_a_sentence():
    with pytest.raises(UserError, match="nostore://a cannot be opened"):
        Store("nostore://a")
    assert join("s3://bucket/x/", "a/b") == "s3://bucket/x/a/b" and "memory" in fsspec.available_protocols()
