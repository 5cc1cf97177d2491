"""What all tests share."""

import json
import os
import shutil
import sys

import pytest

# Files that take minutes, the longest first: begun last, one of them would hold up a worker when the others are done.
LONG = (
    "test_ray.py", "test_other_methods.py", "test_end_to_end.py", "test_parallel_script.py", "test_reproduce.py",
    "test_gym_training.py", "test_score_verb.py", "test_examples.py", "test_gym_wrapper.py", "test_command_line.py",
    "test_study.py", "test_command.py", "test_relabel.py", "test_agent.py", "test_agent_measure.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Long files come first; needs pytest-xdist's --no-loadscope-reorder, which else puts files of many tests first."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(autouse=True)
def plain_jax():
    """Upstream's agent forbids implicit transfers for the whole process: the next test starts without that."""
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_transfer_guard", None)
    yield


@pytest.fixture(autouse=True)
def ordinary_priority():
    """No test leaves its process with real-time priority, which some encoders take as root: it starves all others."""
    yield
    if hasattr(os, "sched_getscheduler"):
        assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.fixture(scope="module")
def tiny_videos(tmp_path_factory):
    """The shipped family, making 32x32 videos of 9 frames in two steps."""
    from torch_bridge.families import resolve

    folder = tmp_path_factory.mktemp("family") / "tiny"
    shutil.copytree(resolve("embedded").folder, folder)
    manifest = json.loads((folder / "family.json").read_text())
    manifest["generation"] |= {"width": 32, "height": 32, "frames": 9, "steps": 2}
    (folder / "family.json").write_text(json.dumps({**manifest, "name": "tiny"}))
    return folder
