"""Agents on disk without pickle: whole or refused, never half."""

import json
import os

import numpy as np
import pytest

from dreamerv3_patches import checkpoint
from genreward_jax.errors import UserError


class FakeAgent:
    """Parameters of several types, as an agent's."""

    def __init__(self, fill: float = 1.0, shape: tuple = (2, 3)) -> None:
        self.params = {
            "enc/kernel": np.full(shape, fill, np.float32).T.copy().T,  # not in C order
            "opt/step": np.array(int(fill), np.int32),
            "fb/frozen/value": np.array(fill > 1),
        }
        self.counters = {"updates": int(fill), "batches": 2, "actions": 3}

    def save(self) -> dict:
        return {"params": self.params, "counters": self.counters}

    def load(self, data: dict) -> None:
        self.params, self.counters = data["params"], data["counters"]


def test_round_trip(tmp_path):
    checkpoint.save_agent(FakeAgent(5), tmp_path)
    other = FakeAgent(1)
    checkpoint.load_agent(other, tmp_path)
    assert other.counters == FakeAgent(5).counters
    for key, value in FakeAgent(5).params.items():
        assert other.params[key].dtype == value.dtype and np.array_equal(other.params[key], value)
        assert other.params[key].shape == value.shape
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.json", "agent.safetensors"]


def truncate(folder):
    data = (folder / checkpoint.ARRAYS).read_bytes()
    (folder / checkpoint.ARRAYS).write_bytes(data[:-4])


def garble(folder):
    size = (folder / checkpoint.ARRAYS).stat().st_size
    (folder / checkpoint.ARRAYS).write_bytes(b"\x80\x05" + b"c" * (size - 2))  # as a pickle begins


@pytest.mark.parametrize(
    "damage, word",
    [
        (truncate, "damaged"),
        (garble, "damaged"),
        (lambda folder: (folder / checkpoint.REST).write_text("{"), "damaged"),
        (lambda folder: (folder / checkpoint.REST).write_text("{}"), "damaged"),
        (lambda folder: (folder / checkpoint.ARRAYS).unlink(), "no agent.safetensors"),
        (lambda folder: (folder / checkpoint.REST).unlink(), "no agent.json"),
    ],
)
def test_damage_is_a_sentence_and_changes_nothing(tmp_path, damage, word):
    checkpoint.save_agent(FakeAgent(5), tmp_path)
    damage(tmp_path)
    agent = FakeAgent(1)
    with pytest.raises(UserError, match=word):
        checkpoint.load_agent(agent, tmp_path)
    assert agent.counters["updates"] == 1


def test_another_agents_checkpoint_is_refused(tmp_path):
    checkpoint.save_agent(FakeAgent(5, (2, 4)), tmp_path)
    with pytest.raises(UserError, match=r"another agent: enc/kernel is float32 \(2, 4\) in it and float32 \(2, 3\)"):
        checkpoint.load_agent(FakeAgent(), tmp_path)
    more = FakeAgent()
    more.params["fb/goal/value"] = np.zeros(3, np.float32)
    checkpoint.save_agent(FakeAgent(), tmp_path)
    with pytest.raises(UserError, match="fb/goal/value is absent in it"):
        checkpoint.load_agent(more, tmp_path)


def test_a_write_that_breaks_off_leaves_the_old_file(tmp_path, monkeypatch):
    checkpoint.save_agent(FakeAgent(5), tmp_path)

    def full(arrays, path):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError):
        checkpoint.save_agent(FakeAgent(7), tmp_path)
    agent = FakeAgent()
    checkpoint.load_agent(agent, tmp_path)
    assert agent.counters["updates"] == 5


def test_a_kill_between_the_two_files_is_seen(tmp_path):
    """New arrays beside old counters are refused by size; a run renames its checkpoint folder whole."""
    checkpoint.save_agent(FakeAgent(5), tmp_path)
    os.rename(tmp_path / checkpoint.REST, tmp_path / "old")
    checkpoint.save_agent(FakeAgent(7, (20, 3)), tmp_path)
    os.replace(tmp_path / "old", tmp_path / checkpoint.REST)
    with pytest.raises(UserError, match="different moments"):
        checkpoint.load_agent(FakeAgent(1, (20, 3)), tmp_path)


class Item:
    def __init__(self, data) -> None:
        self.data = data

    def save(self):
        return self.data

    def load(self, data) -> None:
        self.data = data


def test_upstreams_scripts_keep_nested_data(tmp_path):
    data = {"a": [1, 2.5, None, True], "b": {"c": np.arange(3), "d": "text"}, "n": np.float32(2)}
    first = checkpoint.Checkpoint(tmp_path / "cp")
    first.thing, first.other = Item(data), Item(None)
    first.load_or_save()
    first.thing.data = {**data, "a": []}
    first.save()
    second = checkpoint.Checkpoint(tmp_path / "cp")
    second.thing, second.other = Item(None), Item(1)
    second.load_or_save()
    assert second.other.data is None and second.thing.data["a"] == []
    np.testing.assert_array_equal(second.thing.data["b"]["c"], [0, 1, 2])
    assert [path.name for path in tmp_path.iterdir()] == ["cp"]
    json.loads((tmp_path / "cp/state.json").read_text())
    with pytest.raises(TypeError, match="thing: a checkpoint holds no object"):
        first.thing.data = object()
        first.save()
    (tmp_path / "cp/state.safetensors").write_bytes(b"\x80\x05")
    with pytest.raises(UserError, match="no readable checkpoint"):
        second.load()
