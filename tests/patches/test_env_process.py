"""An environment's process does not outlive a trainer that is killed while it starts, and imports no JAX."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import cloudpickle
import psutil

from genreward_jax import config as config_lib
from genreward_jax import suites

# The parent never comes to portal's barrier, as one that is killed before it.
PARENT = """
import threading
from dreamerv3_patches.env_server import Process

if __name__ == "__main__":
    process = Process(print)
    process.process.start()
    print(process.process.pid, flush=True)
    threading.Event().wait()
"""


def test_it_ends_though_it_waits_at_a_barrier(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    path = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    )
    child = psutil.Process(int(parent.stdout.readline()))
    time.sleep(3.0)  # it imports, and waits
    assert child.is_running() and child.status() != psutil.STATUS_ZOMBIE
    parent.send_signal(signal.SIGKILL)
    parent.communicate(timeout=60)  # its output is the child's too: this returns when both are gone
    end = time.monotonic() + 30
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < end:
        time.sleep(0.1)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


# What the process of an environment does with the maker it is sent; JAX and upstream's package take seconds to import.
CHILD = """
import sys
import dreamerv3_patches.env_server
import cloudpickle

cloudpickle.loads(open(sys.argv[1], "rb").read())
print(*sorted({"jax", "embodied", "torch"} & set(sys.modules)))
"""


def test_neither_training_nor_evaluation_environments_import_jax(tmp_path):
    from genreward_jax.run import eval_env

    config = config_lib.parse(["--task", "metaworld_shelf_place", "--preset", "smoke"])
    for name, make in {"training": suites.make_env, "evaluation": eval_env}.items():
        maker = tmp_path / name
        maker.write_bytes(cloudpickle.dumps(partial(make, config, 0)))
        said = subprocess.run([sys.executable, "-c", CHILD, str(maker)], capture_output=True, text=True, check=True)
        assert said.stdout.split() == [], name
