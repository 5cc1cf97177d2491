"""Relabelling: sums again, rewards asked again through the real bridge, and a directory that a run can go on from."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from genreward_jax import parts, replay_files
from genreward_jax.checkpoint import Checkpoint
from genreward_jax.cli.relabel import _flags
from genreward_jax.cli.relabel import run as verb
from genreward_jax.config import parse
from genreward_jax.errors import UserError
from genreward_jax.goals import load_goal
from genreward_jax.kept_frames import KeptFrames
from genreward_jax.relabel import relabel
from genreward_jax.replay import ShapedReplay
from genreward_jax.rewards.base import Payment
from genreward_jax.rundir import RunDirectory
from genreward_jax.shaping import RewardShaper
from genreward_jax.video import write_video
from genreward_jax.windows import sampled_steps

INTERVAL, LENGTH, CHUNK, SIDE = 16, 40, 32, 96
PARAMETERS = {"enc/a": np.ones(3, np.float32), "fb/b": np.ones(2, np.float32), "fbenc/c": np.zeros(1, np.float32)}


def configuration(logdir, *flags):
    line = f"--preset smoke --task metaworld_reach --reward.interval {INTERVAL} --replay.chunksize {CHUNK}"
    line += f" --env.metaworld.length {LENGTH} --env.metaworld.quality fast --goal.source {logdir.parent / 'first.mp4'}"
    return parse([*line.split(), "--logdir", str(logdir), *flags])


def video(path, seed):
    """A goal of 16 noisy frames, in which nothing is lost."""
    frames = np.random.default_rng(seed).integers(0, 256, (16, 64, 64, 3), np.uint8)
    write_video(path, frames, 8, exact=True)
    return frames


def rows(seed, shown=None, length=LENGTH):
    """Rows of one episode with latents and FB's outputs; ``shown`` are the images of its first window."""
    rng = np.random.default_rng(seed)
    for t in range(length + 1):
        image = rng.integers(0, 256, (64, 64, 3), np.uint8)
        yield {
            "image": shown[t - 1] if shown is not None and 1 <= t <= INTERVAL else image,
            "reward": np.float32(rng.normal() if t else 0),
            "action": rng.uniform(-1, 1, 4).astype(np.float32),
            "is_first": np.bool_(t == 0),
            "is_last": np.bool_(t == LENGTH),
            "is_terminal": np.bool_(False),
            "dyn/deter": rng.normal(size=4).astype(np.float32),
            "reward_fb": np.float32(rng.normal(40, 20)),
            "reward_fb_paid": np.bool_(True),
        }


def pay(name, window):
    answer = Future()
    answer.set_result(Payment([float(window.frames.mean()) / 255]))
    return answer


def make_run(folder, *flags, shown=None, frames=False, lost=0):
    """A run directory through the real shaper, replay and checkpoint: two environments, one with two episodes."""
    config = configuration(folder, *flags)
    terms = parts.check(config)
    directory = RunDirectory(str(folder))
    directory.open(config)
    directory.keep_config(config)
    slots = {"frame_of": lambda worker, slot: np.full((SIDE, SIDE, 3), slot, np.uint8)} if frames else {}
    shaper = RewardShaper(terms, pay, frame_count=config.reward.frames, keep_frames=frames, **slots)
    kept = KeptFrames(folder / "reward_frames") if frames else None
    replay = ShapedReplay(parts.make_replay(config, folder / "replay"), shaper, frames=kept)
    sampled = sampled_steps(INTERVAL, config.reward.frames)
    for worker, seed in ((0, 1), (1, 2), (0, 3)):
        for t, row in enumerate(rows(seed, shown if seed == 3 else None)):
            slot = {"frame_slot": np.int32(t if t and (t - 1) % INTERVAL + 1 in sampled else -1)} if frames else {}
            if not parts.uses_fb(terms):
                row = {key: value for key, value in row.items() if key not in parts.FB_OUTPUTS}
            replay.add({**row, **slot}, worker)

    def save_agent(path):
        save_file(PARAMETERS, path / "agent.safetensors")
        size = (path / "agent.safetensors").stat().st_size
        (path / "agent.json").write_text(json.dumps({"counters": {}, "arrays": 3, "bytes": size}))

    Checkpoint(folder / "checkpoint", save_agent, None, replay, shaper).save(120)
    if lost:  # as in a replay that is full
        chain = next(c for c in replay_files.chains(list((folder / "replay").glob("*.npz"))) if len(c) > 2)
        state = folder / "checkpoint" / f"{120:012d}" / "state.json"
        names = [n for n in json.loads(state.read_text())["replay"] if n not in {file.name for file in chain[:lost]}]
        state.write_text(json.dumps({**json.loads(state.read_text()), "replay": names}))
    directory.close()
    return config


def content(folder):
    """Every file's content, told by its hash."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def columns(folder):
    """The replay's columns, each chain in order, one after the other; chains are told by their first image."""
    found = []
    for chain in replay_files.chains(list((folder / "replay").glob("*.npz"))):
        read = [replay_files.read(file) for file in chain]
        found.append({key: np.concatenate([part[key] for part in read]) for key in read[0]})
    found.sort(key=lambda chain: len(chain["reward"]))
    return {key: np.concatenate([chain[key] for chain in found]) for key in found[0]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with both rewards, whose last episode shows the second goal video in its first window."""
    folder = tmp_path_factory.mktemp("relabel")
    video(folder / "first.mp4", 0)
    shown = video(folder / "second.mp4", 1)
    config = make_run(folder / "run", shown=shown)
    (folder / "run" / "goal").mkdir()
    (folder / "run" / "goal" / "goal.json").write_text("{}")
    return folder / "run", config


def test_other_weights_are_only_summed_again(run, tmp_path, capsys):
    folder, config = run
    before, out = content(folder), tmp_path / "out"
    assert verb([str(folder), "--out", str(out), "--reward.alpha", "0.5", "--reward.beta", "0.25"]) == 0
    assert content(folder) == before
    old, new = columns(folder), columns(out)
    for key in old.keys() - {"reward"}:
        np.testing.assert_array_equal(new[key], old[key], err_msg=key)
    want = old["reward_env"] + 0.5 * np.nan_to_num(old["reward_video"]) + 0.25 * np.nan_to_num(old["reward_fb"])
    np.testing.assert_allclose(new["reward"], want, rtol=1e-6)
    assert np.isfinite(old["reward_video"]).sum() == 6 and np.isfinite(old["reward_fb"]).sum() == 6
    facts = json.loads((out / "relabel.json").read_text())
    assert facts["kept"] == ["video", "fb"] and facts["recomputed"] == [] and facts["rows"] == 3 * (LENGTH + 1)
    assert facts["changed"] == ["reward.alpha: 0.01 -> 0.5", "reward.beta: 1e-05 -> 0.25"]
    said = capsys.readouterr().out
    assert (
        "kept; rows paid 6 -> 6" in said
        and f"--reward.alpha 0.5 --reward.beta 0.25 --reward.interval {INTERVAL}" in said
    )


def test_a_run_can_go_on_from_it(run, tmp_path):
    folder, config = run
    out = tmp_path / "out"
    verb([str(folder), "--out", str(out), "--reward.alpha", "0.5"])
    saved = RunDirectory(str(out)).saved_config()
    quality = ["--env.metaworld.quality", "fast"]  # train takes the run's own
    again = parse([*_flags(saved), *quality, "--logdir", str(out)])
    directory = RunDirectory(str(out))
    assert directory.open(again)  # the printed flags are the run's
    directory.close()
    shaper = RewardShaper(parts.check(again), pay)
    replay = ShapedReplay(parts.make_replay(again, out / "replay"), shaper)
    loaded = []
    assert Checkpoint(out / "checkpoint", None, loaded.append, replay, shaper).load() == 120
    assert shaper.paid == 12 and set(load_file(loaded[0] / "agent.safetensors")) == set(PARAMETERS)
    assert len(replay) == 3 * (LENGTH + 1) - 2 * (replay.length - 1)
    batch = replay.sample(4)
    assert set(batch) == set(columns(out))


def test_another_goal_is_asked_of_the_bridge(run, tmp_path):
    """The window that shows the new goal video scores 1, the others less; FB is left out, from the agent too."""
    folder, config = run
    before, out, second = content(folder), tmp_path / "out", folder.parent / "second.mp4"
    verb(
        [
            str(folder),
            "--out",
            str(out),
            "--method",
            "genreward_no_fb",
            "--goal.source",
            str(second),
            "--reward.alpha",
            "2",
        ]
    )
    assert content(folder) == before
    old, new = columns(folder), columns(out)
    assert not [key for key in new if key.startswith("reward_fb")]
    paid = np.isfinite(new["reward_video"])
    np.testing.assert_array_equal(paid, np.isfinite(old["reward_video"]))
    values = new["reward_video"][paid]
    best = int(np.argmax(values))
    assert abs(values[best] - 1) < 1e-5 and np.delete(values, best).max() < 0.999
    at = np.flatnonzero(paid)[best]
    np.testing.assert_array_equal(new["image"][at - INTERVAL + 1 : at + 1], load_goal(out / "goal").frames)
    np.testing.assert_allclose(new["reward"], new["reward_env"] + 2 * np.nan_to_num(new["reward_video"]), rtol=1e-6)
    for key in ("image", "action", "stepid", "dyn/deter"):
        np.testing.assert_array_equal(new[key], old[key])
    agent = out / "checkpoint" / f"{120:012d}"
    assert set(load_file(agent / "agent.safetensors")) == {"enc/a"}
    assert json.loads((agent / "agent.json").read_text())["bytes"] == (agent / "agent.safetensors").stat().st_size
    assert load_file(agent / "shaper.safetensors")["paid"] == 6
    assert RunDirectory(str(out)).saved_config().goal.source == str(second)


class Elsewhere:
    """A bridge whose model wants frames of another size; its reward is the mean of the window."""

    frame_size, tell = SIDE, None
    windows = []

    def pay(self, name, window):
        self.windows.append(window)
        return pay(name, window)

    def close(self):
        pass


@pytest.fixture
def elsewhere(monkeypatch):
    """Rewards are asked of :class:`Elsewhere`; no goal is made."""
    from genreward_jax import relabel_rows
    from genreward_jax.rewarding import Rewarding

    class NoGoal:
        def save(self, folder):
            folder.mkdir(exist_ok=True)

    made = lambda config, terms, folder, say: Rewarding(terms, RewardShaper([]), Elsewhere(), NoGoal())
    monkeypatch.setattr(relabel_rows, "make_rewarding", made)


def test_kept_frames_are_what_windows_are_made_of(tmp_path, elsewhere):
    folder, out = tmp_path / "run", tmp_path / "out"
    make_run(folder, "--method", "genreward_no_fb", "--replay.reward_frames", "True", frames=True)
    kept = KeptFrames(folder / "reward_frames")
    assert (
        kept.side == SIDE and len(list(kept.folder.rglob("*.webp"))) == 3 * 2 * len(sampled_steps(INTERVAL, 16)) + 3 * 8
    )
    verb([str(folder), "--out", str(out), "--goal.source", str(tmp_path / "other.mp4")])
    new = columns(out)
    paid = np.flatnonzero(np.isfinite(new["reward_video"]))
    asked = {tuple(window.rewards): window.actions for window in Elsewhere.windows}
    for row in paid:  # the environment's own rewards, and the actions that led to each row
        actions = asked[tuple(new["reward_env"][row - INTERVAL + 1 : row + 1])]
        np.testing.assert_array_equal(actions, new["action"][row - INTERVAL : row])
    first, second = np.arange(1, 17).mean() / 255, np.arange(17, 33).mean() / 255  # each frame shows its step
    np.testing.assert_allclose(new["reward_video"][paid], [first, second] * 3, rtol=1e-6)
    assert content(out / "reward_frames") == content(folder / "reward_frames")


def test_frames_that_were_not_kept_are_refused(run, tmp_path, elsewhere):
    folder, _ = run
    with pytest.raises(UserError, match="wants frames of 96 pixels, which the rows do not hold, and the run kept none"):
        verb([str(folder), "--out", str(tmp_path / "out"), "--method", "genreward_no_fb", "--model.family", "other"])
    assert not any(tmp_path.iterdir())


def test_rows_without_their_beginning_are_not_paid(tmp_path, elsewhere, monkeypatch):
    monkeypatch.setattr(Elsewhere, "frame_size", 64)
    folder, out = tmp_path / "run", tmp_path / "out"
    make_run(folder, "--method", "genreward_no_fb", lost=1)
    verb([str(folder), "--out", str(out), "--goal.source", str(tmp_path / "other.mp4")])
    facts = json.loads((out / "relabel.json").read_text())
    assert facts["without_beginning"] == LENGTH + 1 - CHUNK
    assert facts["rows"] == 3 * (LENGTH + 1) - CHUNK and facts["rewards"]["video"]["paid"] == [5, 4]


def test_frames_go_with_their_chunk(tmp_path):
    kept = KeptFrames(tmp_path)
    frame = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    kept.put("a", 3, frame)
    kept.put("b", 0, frame)
    np.testing.assert_array_equal(kept.get("a", 3), frame)
    kept.keep_only({"a"})
    assert kept.has("a", 3) and not kept.has("b", 0) and [file.name for file in tmp_path.iterdir()] == ["a"]


REFUSALS = {
    "nothing": ([], "Nothing changes"),
    "another goal with FB": (["--goal.source", "x.mp4"], "'fb' comes from the agent's own networks"),
    "another interval with FB": (["--reward.interval", "8"], "it cannot be computed again"),
    "other things": (["--batch_size", "2"], "batch_size: 4 -> 2"),
    "FB's own flags": (["--reward.alpha", "1", "--fb.z", "psi"], "fb.z: backward -> psi"),
    "a folder": (["--logdir", "x"], "gets its folder from --out"),
    "flag": (["--reward.alpa", "1"], "did you mean reward.alpha"),
    "weight": (["--reward.alpha", "inf"], "finite"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_leave_nothing(run, tmp_path, name):
    flags, sentence = REFUSALS[name]
    with pytest.raises(UserError, match=sentence):
        verb([str(run[0]), "--out", str(tmp_path / "out"), *flags])
    assert not any(tmp_path.iterdir())


def test_told_to_end_it_takes_away_what_was_half_written(run, tmp_path):
    folder, _ = run
    before, second = content(folder), str(folder.parent / "second.mp4")
    flags = ["--out", str(tmp_path / "out"), "--method", "genreward_no_fb", "--goal.source", second]
    command = [sys.executable, "-m", "genreward_jax", "relabel", str(folder), *flags]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        end = time.monotonic() + 120
        while not any(tmp_path.iterdir()) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        assert process.poll() is None and any(tmp_path.iterdir())  # it has begun, and starts the models now
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    finally:
        process.kill()
    assert not any(tmp_path.iterdir())
    assert content(folder) == before


def test_what_is_in_the_way_is_refused(run, tmp_path):
    import fcntl

    folder, config = run
    wanted = config.update({"reward.alpha": 1.0})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UserError, match="is there already"):
        relabel(str(folder), str(tmp_path / "full"), config, wanted)
    with open(folder / "run.lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="in use by process"):
            relabel(str(folder), str(tmp_path / "out"), config, wanted)
    young = tmp_path / "young"
    shutil.copytree(folder, young)
    shutil.rmtree(young / "checkpoint")
    with pytest.raises(UserError, match="has saved no checkpoint yet"):
        relabel(str(young), str(tmp_path / "out"), config, wanted)
    assert not Path(tmp_path / "out").exists()
