"""The repairs: what upstream 3.3.1 does on today's libraries once they are on, and that nothing else changed."""

import os
import time
from functools import partial

import elements
import jax
import numpy as np
import pytest

from dreamerv3_patches import repairs, watch
from dreamerv3_patches.apply import apply, require
from dreamerv3_patches.env_server import EnvCrash
from dreamerv3_patches.proxies import Proxy
from genreward_jax.errors import UserError
from tests.patches.fake_envs import Counter, OddError, dies_at_birth

apply()

import embodied  # noqa: E402
from embodied.jax import internal, transform  # noqa: E402


def act(carry, obs, **kwargs):
    return carry, {"action": np.zeros((len(obs["count"]), 1), np.float32)}, {}


def driver(*ctors):
    return embodied.Driver(list(ctors), parallel=True)


def test_upstream_is_what_the_patches_were_written_against(monkeypatch):
    """Fails when upstream changes under a patch; and the check itself can fail."""
    assert watch.changed() == []
    target, (_, patches) = next(iter(watch.WATCHED.items()))
    monkeypatch.setitem(watch.WATCHED, target, ("0" * 64, patches))
    assert watch.changed() == [f"{target} has changed under {patches}"]


def test_applying_twice_is_applying_once():
    before = transform.jax, embodied.Driver._env_server, embodied.run.train.__globals__["elements"]
    apply()
    repairs.install()
    after = transform.jax, embodied.Driver._env_server, embodied.run.train.__globals__["elements"]
    assert all(x is y for x, y in zip(before, after, strict=True))
    assert isinstance(transform.jax, Proxy) and not isinstance(transform.jax.__dict__["_module"], Proxy)


def test_absent_upstream_is_a_sentence_with_the_command(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("dreamerv3_patches.apply.importlib.import_module", absent)
    with pytest.raises(UserError, match="make setup.*dreamerv3_patches.build"):
        require()


def test_jit_takes_upstreams_positions_there_and_only_there():
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    double = transform.jax.jit(lambda x, n: x * n, (sharding,), sharding, (1,), None, [])
    assert double(np.float32(3), 2) == 6
    assert internal.jax.jit is not jax.jit
    with pytest.raises(TypeError):
        jax.jit(lambda x: x, sharding)


def test_several_aggregations_of_one_value():
    agg = repairs.Agg()
    for value in (1.0, 2.0, 6.0):
        agg.add("log/x", np.float32(value), agg=("avg", "max", "sum"))
        agg.add("score", np.float32(value), agg="sum")
    assert agg.result() == {"log/x/avg": 3.0, "log/x/max": 6.0, "log/x/sum": 9.0, "score": 9.0}
    with pytest.raises((KeyError, TypeError)):  # when elements takes a tuple itself, the repair can go
        elements.Agg().add("x", np.float32(1), agg=("avg", "max"))
    for name in repairs.RUN_SCRIPTS:
        script = repairs._module(f"embodied.run.{name}")
        assert script.elements.Agg is repairs.Agg and script.elements.Counter is elements.Counter


def test_no_run_script_unpickles(tmp_path):
    for name in ("train", "train_eval", "parallel"):
        with pytest.raises(UserError, match="unpickle"):
            repairs._module(f"embodied.run.{name}").pickle.loads(b"")
    checkpoint = embodied.run.parallel.elements.Checkpoint(elements.Path(tmp_path) / "agent.pkl")
    checkpoint.step, again = elements.Counter(7), elements.Counter()
    checkpoint.load_or_save()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["agent", "state.json", "state.safetensors"]
    checkpoint.step = again
    checkpoint.load_or_save()
    assert int(again) == 7


def test_driver_steps_environments_in_processes_of_their_own(tmp_path):
    """Spawned, at once (upstream's loop may sleep 0.1 s a step), closed in good order."""
    marks = [tmp_path / "0", tmp_path / "1"]
    play = driver(*[partial(Counter, mark=str(mark)) for mark in marks])
    rows = {0: [], 1: []}
    play.on_step(lambda row, worker: rows[worker].append(row))
    play.reset()
    play(act, steps=2)
    start = time.time()
    play(act, steps=100)
    assert time.time() - start < 50 * 0.1
    play.close()
    pids = {int(row["log/pid"]) for worker in rows for row in rows[worker]}
    assert len(pids) == 2 and os.getpid() not in pids
    assert [int(row["count"]) for row in rows[1]] == list(range(51))
    assert all(mark.exists() for mark in marks)


def test_an_environments_error_reaches_the_parent_as_it_is():
    play = driver(partial(Counter, fail_at=2))
    play.reset()
    with pytest.raises(OddError, match="gripper") as caught:
        play(act, steps=10)
    assert caught.value.args == ("the gripper fell off", 7)
    assert "fake_envs.py" in "".join(caught.value.__notes__)  # with the child's traceback
    assert not any(process.running for process in play.procs)


def test_an_environment_that_dies_is_named():
    play = driver(Counter, partial(Counter, fail_at=1, how="die"))
    play.reset()
    with pytest.raises(EnvCrash, match="environment 1 ended, exit code -9"):
        play(act, steps=10)
    assert not any(process.running for process in play.procs)


def test_an_environment_that_cannot_be_made_says_why():
    with pytest.raises(EnvCrash, match="environment 0 ended, exit code 3"):
        driver(dies_at_birth)
    with pytest.raises(ZeroDivisionError):
        driver(partial(divmod, 1, 0))
