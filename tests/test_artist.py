"""The process that draws does not outlive a trainer that is killed."""

import subprocess
import sys
import time

import psutil

PARENT = """
import os
from genreward_jax.artist import Artist

if __name__ == "__main__":
    artist = Artist()
    print(artist.pool.submit(os.getpid).result(), flush=True)
    input()
"""


def test_it_ends_with_a_killed_trainer(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    pipe = subprocess.PIPE
    parent = subprocess.Popen([sys.executable, str(script)], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
    worker = psutil.Process(int(parent.stdout.readline()))
    assert worker.is_running()
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 30
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
