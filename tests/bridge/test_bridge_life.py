"""The bridge process's life: killed, killed again, late, orphaned, and started where something is missing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from torch_bridge.client import Bridge, BridgeError, BridgeSpec, RewardSpec


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while running(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not running(pid)


def test_a_killed_child_is_started_again_once(make_window, tmp_path):
    """A reward's crash ends the child; what was asked is asked again and answered; the second death is an error."""
    events, log = [], tmp_path / "bridge.log"
    rewards = {
        "deadly": RewardSpec("user_rewards:Deadly", settings={"until": str(tmp_path / "stop")}),
        "slow": RewardSpec("user_rewards:Slow"),
    }
    with Bridge(BridgeSpec(log_path=str(log)), {"embed_text"}, rewards, events.append) as bridge:
        first = bridge.describe()["pid"]
        before = bridge.call("embed_text", ["a cup"]).result(60)
        slow = bridge.pay("slow", make_window(step=1))  # under way when the child dies
        deadly = bridge.pay("deadly", make_window())
        text = bridge.call("embed_text", ["a cup"])
        assert deadly.result(60).values == [2.0] and slow.result(60).values == [1.0]
        np.testing.assert_array_equal(text.result(60), before)
        assert len(events) == 1 and "ended by signal 9" in events[0] and "again, once" in events[0]
        assert bridge.stats()["restarts"] == 1 and not running(first)

        waiting = bridge.pay("slow", make_window(step=30))
        os.kill(bridge._child._process.pid, signal.SIGKILL)
        with pytest.raises(BridgeError, match=f"ended by signal 9 again; see {log}"):
            waiting.result(60)
        with pytest.raises(BridgeError, match="again"):
            bridge.call("embed_text", ["a cup"]).result(60)
        assert len(events) == 1


def test_a_signal_to_the_group_spares_a_child_that_has_only_begun():
    bridge = Bridge(BridgeSpec(), (), {})
    bridge.start(wait=False)
    try:
        while bridge._child is None:
            time.sleep(0.001)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(bridge._child._process.pid, number)
        assert bridge.describe()["pid"] == bridge._child._process.pid and bridge.stats()["restarts"] == 0
    finally:
        bridge.close()


def test_a_late_answer_is_an_error_and_closing_does_not_wait_for_it(make_window):
    spec = BridgeSpec(timeout=0.5)
    with Bridge(spec, (), {"slow": RewardSpec("user_rewards:Slow")}) as bridge:
        pid = bridge.describe()["pid"]
        os.kill(pid, signal.SIGINT)  # Ctrl-C is the trainer's business
        os.kill(pid, signal.SIGTERM)
        late, started = bridge.pay("slow", make_window(step=60)), time.monotonic()
        with pytest.raises(BridgeError, match="no answer from the bridge to 'reward slow' for 0.5 s"):
            late.result(30)
        assert running(pid) and bridge.stats()["restarts"] == 0
        never = bridge.pay("slow", make_window(step=60))
    assert time.monotonic() - started < 20 and not running(pid)
    with pytest.raises(BridgeError, match="closed"):
        never.result(1)


PARENT = """
import os, sys, time
import numpy as np
from torch_bridge.client import Bridge, BridgeSpec
import genreward_jax.goals
bridge = Bridge(BridgeSpec(), {"embed_state"}).start()
state = bridge.call("embed_state", np.zeros((1, 64, 64, 3), np.uint8)).result()
heavy = [name for name in ("torch", "diffusers", "transformers", "open_clip", "torchvision") if name in sys.modules]
if not (fork := os.fork()):  # as an environment's process might: it keeps the parent's end of the socket open
    time.sleep(60)
    os._exit(0)
print(bridge.describe()["pid"], fork, state.shape, heavy, flush=True)
time.sleep(60)
"""


def test_the_child_dies_with_its_parent_which_never_imports_torch():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        child, fork, said = parent.stdout.readline().split(" ", 2)
        try:
            assert said.strip() == "(1, 384) []" and running(int(child))
            parent.send_signal(signal.SIGKILL)
            assert wait_until_gone(int(child), 5)
        finally:
            parent.kill()
            os.kill(int(fork), signal.SIGKILL)


def test_a_model_that_is_not_there_is_said_at_the_start(tmp_path):
    bridge = Bridge(BridgeSpec(family=str(tmp_path / "none")), {"embed_text"})
    with pytest.raises(BridgeError, match=f"{tmp_path}/none' is no folder here and no hub id"):
        bridge.start()
    with pytest.raises(BridgeError, match="is no folder here"):
        bridge.call("embed_text", ["a cup"]).result(1)
    bridge.close()


def test_an_interpreter_that_is_not_there_or_ends_at_once():
    with pytest.raises(BridgeError, match="could not be started with '/no/python'"):
        Bridge(BridgeSpec(python="/no/python"), ()).start()
    with pytest.raises(BridgeError, match="ended with exit code 1"):
        Bridge(BridgeSpec(python="/bin/false"), ()).start()


def test_a_bridge_that_was_not_started_or_is_closed():
    bridge = Bridge(BridgeSpec(), ())
    with pytest.raises(BridgeError, match="was not started"):
        bridge.describe()
    with pytest.raises(BridgeError, match="not running"):
        bridge.call("embed_text", ["a cup"]).result(1)
    bridge.close()
