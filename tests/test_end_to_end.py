"""The whole line on real Meta-World: rewards at the right rows with the right values, stopping, killing, resuming."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from genreward_jax.score import given

ROOT = Path(__file__).resolve().parent.parent
INTERVAL = 16
FLAGS = f"""
    --preset smoke --task metaworld_drawer_close --run.steps 420 --run.prefill 40 --run.save_every 4 --run.log_every 2
    --env.metaworld.length 40 --reward.interval {INTERVAL} --fb.train_steps 120 --fb.encoder frozen --eval.every 0
    --reward.alpha 0.5 --reward.beta 0.25
""".split()


def command(logdir, *more):
    return [sys.executable, "-m", "genreward_jax", "train", *FLAGS, "--logdir", str(logdir), *more]


def start(logdir, *more):
    return subprocess.Popen(
        command(logdir, *more), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def steps_of(logdir):
    """Agent steps of training episodes that have ended, as scores.jsonl tells them."""
    file = Path(logdir) / "scores.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [line["step"] for line in lines if "episode/score" in line]


def wait_for(condition, process, what, limit=600):
    """Waits until a condition holds while the process runs."""
    end = time.time() + limit
    while not condition():
        assert process.poll() is None, f"ended before {what}:\n{process.stdout.read()}"
        assert time.time() < end, f"no {what} within {limit} s"
        time.sleep(0.2)


def checkpoint_step(logdir):
    pointer = Path(logdir) / "checkpoint" / "latest"
    return int(pointer.read_text()) if pointer.exists() else 0


def replay_rows(logdir):
    """All rows of a run's replay in order, as arrays by key; chunks follow each other by their successors' names."""
    chunks = {}
    for file in (Path(logdir) / "replay").glob("*.npz"):
        stamp, uuid, successor, _ = file.stem.split("-")
        chunks[uuid] = (stamp, successor, file)
    parts = [dict(np.load(file)) for _, _, file in sorted(chunks.values())]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run that is stopped by SIGTERM, goes on, is killed by SIGKILL, goes on and ends."""
    logdir = tmp_path_factory.mktemp("end_to_end") / "run"
    story = {"logdir": logdir}

    process = start(logdir)
    wait_for(lambda: len(steps_of(logdir)) >= 4, process, "four episodes")
    process.send_signal(signal.SIGTERM)
    story["stopped_output"], _ = process.communicate(timeout=120)
    story["stopped_code"], story["stopped_at"] = process.returncode, checkpoint_step(logdir)
    story["stopped_rows"] = len(replay_rows(logdir)["reward"])

    process = start(logdir)
    wait_for(lambda: checkpoint_step(logdir) > story["stopped_at"], process, "a later checkpoint")
    story["children"] = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    story["killed_at"] = checkpoint_step(logdir)

    process = start(logdir)
    story["output"], _ = process.communicate(timeout=800)
    story["code"] = process.returncode
    return story


def test_sigterm_saves_and_ends_cleanly(run):
    assert run["stopped_code"] == 0, run["stopped_output"]
    assert "Stopped by SIGTERM and saved" in run["stopped_output"]
    assert "Traceback" not in run["stopped_output"]
    assert 0 < run["stopped_at"] < 420
    resets = -(-run["stopped_at"] // 40)  # a row a step, and one for each episode's reset
    assert run["stopped_rows"] in (run["stopped_at"] + resets, run["stopped_at"] + resets + 1)


def test_sigkill_leaves_no_children_and_the_last_checkpoint(run):
    end = time.time() + 20
    while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in run["children"]):
        assert time.time() < end, [child.cmdline() for child in run["children"] if child.is_running()]
        time.sleep(0.2)
    assert len(run["children"]) >= 2  # the environment and the bridge
    assert run["killed_at"] > run["stopped_at"]


def test_it_goes_on_to_the_end(run):
    assert run["code"] == 0, run["output"]
    assert f"continued at step {run['killed_at']}" in run["output"]
    assert checkpoint_step(run["logdir"]) == 420
    steps = steps_of(run["logdir"])
    assert steps == sorted(set(steps))  # nothing is logged twice
    state = json.loads((run["logdir"] / "checkpoint" / f"{420:012d}" / "state.json").read_text())
    assert state["counters"]["step"] == 420
    assert not [file for file in run["logdir"].rglob("*") if file.suffix in (".pkl", ".pickle")]


def test_every_reward_is_at_its_row_with_its_value(run):
    """Eq. 10 at reward steps, r_env elsewhere; r_video and r_FB computed again from what the replay holds."""
    rows = replay_rows(run["logdir"])
    step = np.zeros(len(rows["reward"]), int)
    for t in range(1, len(step)):
        step[t] = 0 if rows["is_first"][t] else step[t - 1] + 1
    due = (step > 0) & (step % INTERVAL == 0)
    paid_video, paid_fb = np.isfinite(rows["reward_video"]), np.isfinite(rows["reward_fb"])
    np.testing.assert_array_equal(paid_video, due)
    assert paid_fb.sum() >= 5 and not (paid_fb & ~due).any()
    assert not paid_fb[: 120 + 1].any()  # FB still learned
    want = rows["reward_env"] + 0.5 * np.nan_to_num(rows["reward_video"]) + 0.25 * np.nan_to_num(rows["reward_fb"])
    np.testing.assert_allclose(rows["reward"], want, rtol=1e-5, atol=1e-6)
    check_video(run["logdir"], rows, np.flatnonzero(due))
    check_fb(run["logdir"], rows, np.flatnonzero(paid_fb))


def check_video(logdir, rows, paid):
    """Eq. 3 to 5 with diffusers called directly."""
    import torch
    from safetensors.numpy import load_file

    from genreward_jax.windows import sample_indices
    from torch_bridge.families import resolve
    from torch_bridge.repairs import repair_torchvision

    repair_torchvision()
    from diffusers import AutoencoderKLCogVideoX

    vae = AutoencoderKLCogVideoX.from_pretrained(resolve("embedded").folder / "vae", torch_dtype=torch.float32)

    def latent(frames):
        video = torch.from_numpy(frames.copy()).float().permute(3, 0, 1, 2)[None] / 127.5 - 1
        with torch.no_grad():
            return vae.encode(video).latent_dist.mean.double().numpy().ravel()

    goal = latent(load_file(logdir / "goal" / "goal.safetensors")["frames"])
    for row in paid:
        z = latent(rows["image"][row - INTERVAL + 1 + sample_indices(INTERVAL, 16)])
        cosine = z @ goal / np.linalg.norm(z) / np.linalg.norm(goal)
        np.testing.assert_allclose(rows["reward_video"][row], cosine, atol=1e-5)


def check_fb(logdir, rows, paid):
    """Eq. 9 of the row before the paid one, by the frozen networks and the frozen encoder of the last checkpoint."""
    import jax
    import ninjax as nj

    import genreward_jax

    agent = genreward_jax.load(str(logdir)).agent
    before = np.asarray(paid) - 1
    obs = {"image": rows["image"][before]}
    model = agent.model

    def reward(obs, act):
        return model.fb.reward(
            model._copied_tokens(obs, jax.numpy.zeros(len(before), bool), single=True), model.fb.flat_action(act)
        )

    with jax.transfer_guard("allow"):
        params = {k: np.asarray(v) for k, v in agent.params.items() if k.startswith(("fb/", "fbenc/"))}
        _, values = nj.pure(reward)(params, obs, {"action": rows["action"][before]}, seed=0)
    np.testing.assert_allclose(rows["reward_fb"][paid], values, rtol=1e-3, atol=1e-3)


def test_what_a_run_leaves_behind(run):
    logdir = run["logdir"]
    for name in (
        "config.yaml", "metrics.jsonl", "scores.jsonl", "goal/goal.mp4", "goal/key_frame.png", "goal/similarity.png",
        "goal/goal.json", "goal/generated/video.mp4", "videos/episode_beside_goal.mp4", "plots/learning_curve.png",
        "startup.json", "provenance.json", "videos/episode.mp4",
    ):  # fmt: skip
        assert (logdir / name).stat().st_size > 0, name
    metrics = {key for line in (logdir / "metrics.jsonl").read_text().splitlines() for key in json.loads(line)}
    wanted = """episode/score episode/success episode/length eval/score eval/success reward/video reward/fb reward/total
        reward/share reward/video_spread reward/latency_ms reward/pending fb/loss fb/ortho fps/policy
        fps/train train/loss/image""".split()
    assert not set(wanted) - metrics
    marks = json.loads((logdir / "startup.json").read_text())["seconds"]
    assert 0 < marks["imports"] < marks["agent"] < marks["step"] <= marks["filled"] < marks["train_step"]


def test_the_policy_can_be_used_alone(run):
    import genreward_jax

    policy = genreward_jax.load(str(run["logdir"]))
    image = np.zeros((64, 64, 3), np.uint8)
    first, second = policy.act(image), policy.act({"image": image})
    assert first.shape == (4,) and first.dtype == np.float32 and np.abs(first).max() <= 1
    assert not np.array_equal(first, second)
    with pytest.raises(Exception, match="uint8 images of"):
        policy.act(image[:32])


def test_eval_writes_results_videos_and_a_data_set(run, tmp_path):
    data = tmp_path / "data"
    verb = [sys.executable, "-m", "genreward_jax", "eval", str(run["logdir"]), "--data", str(data)]
    done = subprocess.run(
        [*verb, "--episodes", "1", "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["step"] == 420 and len(results["episodes"]) == 1 and results["episodes"][0]["length"] == 40
    assert (tmp_path / "episode_000.mp4").stat().st_size > 0
    (episode,) = given.load(data)
    assert episode.frames.shape == (41, 64, 64, 3) and episode.actions.shape == (41, 4) and episode.actions.any()
    assert episode.rewards.sum() == pytest.approx(results["episodes"][0]["score_env"], rel=1e-5)
    assert episode.success.any() == bool(results["episodes"][0]["success"]) and episode.behaviour == "run"
    again = subprocess.run(verb, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert again.returncode == 2 and "is not empty" in again.stderr


REFUSALS = {
    "another task": (["--task", "metaworld_reach"], "task: metaworld_drawer_close -> metaworld_reach"),
    "another seed": (["--seed", "3"], "seed: 0 -> 3"),
    "another method": (["--method", "none"], "method: genreward -> none"),
    "another goal": (["--goal.prompt", "something else"], "goal.prompt"),
    "another model": (["--model.family", "elsewhere"], "model.family: embedded -> elsewhere"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_another_run_in_the_same_folder_is_refused(run, name):
    flags, sentence = REFUSALS[name]
    done = subprocess.run(command(run["logdir"], *flags), cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stdout
    assert sentence in done.stderr and "Traceback" not in done.stderr


def test_a_folder_in_use_is_refused(run):
    import fcntl

    with open(run["logdir"] / "run.lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(command(run["logdir"]), cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "in use by process" in done.stderr


def test_a_deterministic_run_is_the_same_from_the_same_seed(tmp_path):
    """Bit for bit: parameters after some training, and every row of the replay.

    Without saves by the clock: upstream writes a chunk once, with the latents that its rows have by then.
    """
    flags = "--run.deterministic True --run.steps 200 --run.plots False --fb.train_steps 90 --run.prefill 30".split()
    flags += ["--run.save_every", "1e6"]
    outcomes = []
    for name in ("a", "b"):
        done = subprocess.run(
            command(tmp_path / name, *flags), cwd=ROOT, capture_output=True, text=True, timeout=400, env=os.environ
        )
        assert done.returncode == 0, done.stdout + done.stderr
        checkpoint = tmp_path / name / "checkpoint" / f"{200:012d}" / "agent.safetensors"
        outcomes.append((checkpoint.read_bytes(), replay_rows(tmp_path / name)))
    assert outcomes[0][0] == outcomes[1][0]
    for key, values in outcomes[0][1].items():
        if key != "stepid":
            np.testing.assert_array_equal(values, outcomes[1][1][key], err_msg=key)
