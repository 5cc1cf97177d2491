"""From the simulator to a window: a model that wants larger frames than the agent's gets them through shared memory."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from genreward_jax import parts
from genreward_jax.config import parse
from genreward_jax.errors import UserError
from genreward_jax.rewarding import make_rewarding
from genreward_jax.video import write_video
from genreward_jax.windows import sample_indices

ROOT = Path(__file__).resolve().parent.parent
SIZE, INTERVAL, STEPS = 96, 8, 20

RENDER = """
import sys, numpy as np
from genreward_jax.envs.metaworld import MetaWorld
seed, size, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
env = MetaWorld("reach", size=(size, size), seed=seed, length=100)
actions = np.load(sys.argv[4])
frames = [env.step({"reset": True, "action": np.zeros(4, np.float32)})["image"]]
frames += [env.step({"reset": False, "action": a})["image"] for a in actions]
np.save(out, np.stack(frames))
"""


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """The embedded family under another manifest, which asks for 96x96 frames."""
    from torch_bridge.families import resolve

    folder = tmp_path_factory.mktemp("family") / "larger"
    shutil.copytree(resolve("embedded").folder, folder)
    manifest = json.loads((folder / "family.json").read_text())
    (folder / "family.json").write_text(json.dumps({**manifest, "name": "larger", "frame_size": SIZE}))
    return folder


def configuration(family, *flags):
    line = f"""--preset smoke --task metaworld_reach --method genreward_no_fb --model.family {family} --run.envs 2
        --env.metaworld.length 100 --env.metaworld.repeat 1 --reward.interval {INTERVAL} --env.metaworld.quality fast"""
    return parse([*line.split(), *flags])


def test_windows_hold_the_large_frames_of_their_own_environment(family, tmp_path):
    from dreamerv3_patches.apply import apply

    apply()
    import embodied

    config = configuration(family)
    terms = parts.check(config)
    rewarding = make_rewarding(config, terms, tmp_path, say=lambda text: None)
    windows, actions = [], {0: [], 1: []}
    pay = rewarding.bridge.pay
    rewarding.shaper.pay = lambda name, window: (windows.append(window), pay(name, window))[1]
    rng = np.random.default_rng(0)
    makers = [partial(parts.make_env, config, i, seed=50 + i, **rewarding.env_settings[i]) for i in range(2)]
    driver = embodied.Driver(makers, parallel=True)
    rows = {0: [], 1: []}

    def policy(carry, obs):
        return carry, {"action": rng.uniform(-1, 1, (2, 4)).astype(np.float32)}, {}

    def on_step(tran, worker):
        actions[worker].append(tran["action"])
        rows[worker] += rewarding.shaper.push(worker, tran)

    driver.on_step(on_step)
    driver.reset(lambda count: ())
    try:
        driver(policy, steps=2 * (STEPS + 1))
        for worker, row in rewarding.shaper.flush():
            rows[worker].append(row)
        full = [slots.full for slots in rewarding.slots]
    finally:
        driver.close()
        rewarding.close()
    assert len(windows) == 2 * (STEPS // INTERVAL)
    assert not any(full)  # every frame was fetched, and its slot freed
    for worker in (0, 1):
        assert rows[worker][0]["image"].shape == (64, 64, 3)
        paid = [t for t, row in enumerate(rows[worker]) if np.isfinite(row["reward_video"])]
        assert paid == [8, 16]
        frames = render(50 + worker, np.stack(actions[worker][:STEPS]), tmp_path)
        for k, window in enumerate(windows[worker::2]):
            want = frames[k * INTERVAL + 1 + sample_indices(INTERVAL, config.reward.frames)]
            np.testing.assert_array_equal(window.frames, want)


def test_a_run_goes_on_with_its_own_goal(family, tmp_path, monkeypatch):
    """What was generated lies in the run's folder, so an emptied cache is no reason for another video."""
    from genreward_jax import generating, goals, rewarding
    from tests.cli.test_goal import PlainBridge
    from torch_bridge import client

    class Bridge(PlainBridge):
        def __init__(self, spec, capabilities, on_event):
            pass

        def start(self, wait=True):
            pass

        def close(self):
            pass

        def add_reward(self, name, spec):
            pass

        def release(self, keep):
            pass

        pay = tell = None

    monkeypatch.setattr(client, "Bridge", Bridge)
    monkeypatch.setenv("GENREWARD_CACHE", str(tmp_path / "cache"))
    made = []

    def make(folder, request, how, image):
        made.append(request)
        frames = np.random.default_rng(0).integers(0, 256, (17, 64, 64, 3), dtype=np.uint8)
        write_video(folder / "video.mp4", frames, 8, exact=True)
        (folder / "request.json").write_text(json.dumps(request))

    monkeypatch.setattr(generating, "_make", make)
    config = configuration(family)
    digests = []
    for _ in range(2):
        started = rewarding.make_rewarding(config, parts.check(config), tmp_path / "run", say=lambda text: None)
        started.goal.save(tmp_path / "run" / "goal")
        digests.append(started.goal.digest)
        started.close()
        for name in ("generated", "goals"):
            shutil.rmtree(tmp_path / "cache" / name, ignore_errors=True)
    assert len(made) == 1 and digests[0] == digests[1]
    assert goals.load_goal(tmp_path / "run" / "goal").digest == digests[0]


def test_something_else_is_done_while_the_model_process_starts(family, tmp_path):
    """Its failure ends the bridge; a family that there is not is refused before."""
    write_video(tmp_path / "goal.mp4", np.random.default_rng(0).integers(0, 256, (17, 64, 64, 3), dtype=np.uint8), 8)
    config, seen = configuration(family, "--goal.source", str(tmp_path / "goal.mp4")), []

    def meanwhile():
        seen.append(True)
        raise RuntimeError("no agent")

    def make(config):
        make_rewarding(config, parts.check(config), tmp_path, say=lambda text: None, meanwhile=meanwhile)

    before = len(psutil.Process().children())
    with pytest.raises(UserError, match="no folder here"):
        make(config.update({"model.family": str(tmp_path / "none")}))
    assert seen == []
    with pytest.raises(RuntimeError, match="no agent"):
        make(config)
    assert seen == [True] and len(psutil.Process().children()) == before


def render(seed, actions, folder):
    """The same episode drawn at 96x96 in a process of its own."""
    np.save(folder / "actions.npy", actions)
    out = folder / f"frames{seed}.npy"
    subprocess.run(
        [sys.executable, "-c", RENDER, str(seed), str(SIZE), str(out), str(folder / "actions.npy")],
        cwd=ROOT, check=True, timeout=120,
    )  # fmt: skip
    return np.load(out)


def test_the_goal_is_kept_and_the_bridge_keeps_only_what_pays(family, tmp_path):
    config = configuration(family)
    rewarding = make_rewarding(config, parts.check(config), tmp_path, say=lambda text: None)
    try:
        assert rewarding.goal.frames.shape == (16, SIZE, SIZE, 3)
        with pytest.raises(Exception, match="embed_image"):
            rewarding.bridge.call("embed_image", rewarding.goal.frames).result(60)
    finally:
        rewarding.close()


def test_a_method_without_rewards_starts_no_bridge(tmp_path):
    config = parse("--preset smoke --task metaworld_reach --method none --env.metaworld.quality fast".split())
    rewarding = make_rewarding(config, parts.check(config), tmp_path, say=lambda text: None)
    assert rewarding.bridge is None and rewarding.goal is None and rewarding.goal_video.ndim == 4
    rewarding.close()
