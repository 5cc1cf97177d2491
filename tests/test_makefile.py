"""The make line: every variable reaches the program as its flag, as it was typed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def make(*arguments, folder=ROOT, code=0):
    """Output of make, in an environment without what a make around this test has set."""
    ours = (
        "MAKE",
        "MFLAGS",
        "PROMPT",
        "IMAGE",
        "FRAMES",
        "OUT",
        "PYTHON",
        "TASK",
        "STEPS",
        "MODEL",
        "FLAGS",
        "WORKERS",
        "RUN",
        "GOAL",
        "PRESET",
        "SEED",
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def echoing(tmp_path):
    """A checkout's Makefile with a ``.venv`` whose Python prints its arguments, one a line, and a finished set-up."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "genreward_jax").mkdir()
    (tmp_path / "genreward_jax" / "__init__.py").touch()
    (tmp_path / "genreward_jax" / "bootstrap.py").touch()
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    return tmp_path


def test_make_alone_lists_every_target():
    text = make()
    makefile = (ROOT / "Makefile").read_text()
    for line in makefile.splitlines():
        if line[:1].isalpha() and ":" in line and "=" not in line.split("##")[0]:
            name = line.split(":")[0]
            assert name == "setup-if-needed" or f"\n  {name} " in text, f"make help does not list {name}"


def test_make_train_alone_adds_no_flags(echoing):
    assert make("train", folder=echoing).splitlines() == ["-m", "genreward_jax", "train"]


def test_make_train_passes_each_variable_as_its_flag(echoing):
    given = {
        "TASK": "drawer_close", "STEPS": "1e4", "SEED": "3", "METHOD": "none", "ENV_REWARD": "sparse",
        "LOGDIR": "runs/x", "PRESET": "cpu", "GOAL": "goal.mp4", "MODEL": "folder",
    }  # fmt: skip
    flags = {
        "--task": "metaworld_drawer_close", "--run.steps": "1e4", "--seed": "3", "--method": "none",
        "--env.metaworld.reward": "sparse", "--logdir": "runs/x", "--preset": "cpu", "--goal.source": "goal.mp4",
        "--model.family": "folder",
    }  # fmt: skip
    said = make("train", *(f"{name}={value}" for name, value in given.items()), folder=echoing).splitlines()[3:]
    assert dict(zip(said[::2], said[1::2], strict=True)) == flags


@pytest.mark.parametrize(
    "value", ["two words", "it's", '"quoted"', "a$b", "$(shell touch bad)", "`touch bad`", "a;b,c#d%e", "*"]
)
def test_values_arrive_as_typed(echoing, value):
    said = make("train", f"GOAL={value}", folder=echoing).splitlines()
    assert said[3:] == ["--goal.source", value]
    assert make("eval", f"RUN={value}", folder=echoing).splitlines()[3:] == [value]
    assert not (echoing / "bad").exists()


def test_flags_are_read_by_the_shell(echoing):
    said = make("train", "TASK=reach", "FLAGS=--reward.alpha 0 --goal.prompt 'an arm'", folder=echoing).splitlines()
    assert said[5:] == ["--reward.alpha", "0", "--goal.prompt", "an arm"]


def test_make_goal_passes_each_variable_as_its_flag(echoing):
    given = {
        "TASK": "drawer_close", "PROMPT": "it's a robot; 2 x $HOME", "IMAGE": "a b.png",
        "MODEL": "THUDM/CogVideoX-5b-I2V", "SEED": "3", "FRAMES": "49", "GOAL": "goal.mp4", "OUT": "goals/x",
    }  # fmt: skip
    flags = {
        "--task": "metaworld_drawer_close", "--goal.prompt": given["PROMPT"], "--goal.image": "a b.png",
        "--model.family": given["MODEL"], "--goal.seed": "3", "--goal.frames": "49", "--goal.source": "goal.mp4",
        "--out": "goals/x",
    }  # fmt: skip
    said = make("goal", *(f"{name}={value}" for name, value in given.items()), folder=echoing).splitlines()[2:]
    assert said[0] == "goal" and dict(zip(said[1::2], said[2::2], strict=True)) == flags
    assert make("goal", folder=echoing).splitlines() == ["-m", "genreward_jax", "goal"]


def test_make_eval(echoing):
    said = make("eval", "RUN=runs/x", "EPISODES=3", "DATA=a folder", folder=echoing).splitlines()[2:]
    assert said == ["eval", "runs/x", "--episodes", "3", "--data", "a folder"]
    assert "make eval needs a run directory: make eval RUN=runs/" in make("eval", folder=echoing, code=2)


def test_make_sweep(echoing):
    said = make(
        "sweep", "SWEEP=my sweep.yaml", "OUT=s3://bucket/it's", "FLAGS=--at-once 2", folder=echoing
    ).splitlines()
    assert said[2:] == ["sweep", "my sweep.yaml", "--out", "s3://bucket/it's", "--at-once", "2"]
    assert "make sweep needs a name under configs/sweeps or a file" in make("sweep", folder=echoing, code=2)


def test_make_sweep_gets_ray_where_it_is_missing(echoing):
    """As the set-up installs: editable, and at the pinned versions."""
    (echoing / ".venv/bin/python").write_text('#!/bin/sh\nprintf \'%s\\n\' "$@"\ntest "$1" != -c\n')
    said = make("sweep", "SWEEP=smoke", folder=echoing).splitlines()
    pip = said[: said.index("sweep") - 2]
    assert pip[:2] == ["-m", "pip"] and pip[-2:] == ["-e", ".[sweep]"]
    assert pip[pip.index("-c") + 1] == "constraints.txt" and "editable_mode=compat" in pip


def test_make_test_runs_pytest_on_two_processes(echoing):
    assert make("test", folder=echoing).splitlines()[:4] == ["-m", "pytest", "-n", "2"]


def test_make_fails_as_the_program_does(echoing):
    (echoing / ".venv" / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    for target in ("train", "test", "lint"):
        make(target, folder=echoing, code=2)


def test_make_without_any_python_says_so(echoing):
    make_path = shutil.which("make")
    done = subprocess.run([make_path, "setup"], cwd=echoing, env={"PATH": "/nowhere"}, capture_output=True, text=True)
    assert done.returncode == 2
    assert "There is no python3 here" in done.stderr


def test_make_score_passes_each_variable_as_its_flag(echoing):
    given = {"TASK": "reach", "REWARDS": "video,my.module:Class", "EPISODES": "4", "RUN": "runs/x", "DATA": "my data",
             "TASKS": "none", "OUT": "out", "GOAL": "expert", "ENV_REWARD": "sparse"}  # fmt: skip
    flags = {"--task": "metaworld_reach", "--rewards": "video,my.module:Class", "--episodes": "4", "--run": "runs/x",
             "--data": "my data", "--tasks": "none", "--out": "out", "--goal.source": "expert",
             "--env.metaworld.reward": "sparse"}  # fmt: skip
    said = make("score", *(f"{name}={value}" for name, value in given.items()), folder=echoing).splitlines()
    assert said[:3] == ["-m", "genreward_jax", "score"]
    assert dict(zip(said[3::2], said[4::2], strict=True)) == flags


@pytest.mark.parametrize("target", ["figures", "reproduce"])
def test_figures_pass_each_variable_as_its_flag(echoing, target):
    given = {"FIGURE": "5,7", "PRESET": "smoke", "RUNS": "my runs", "OUT": "out"}
    said = make(target, *(f"{name}={value}" for name, value in given.items()), folder=echoing).splitlines()[-9:]
    assert said[0] == target
    flags = {"--figure": "5,7", "--preset": "smoke", "--runs": "my runs", "--out": "out"}
    assert dict(zip(said[1::2], said[2::2], strict=True)) == flags


def test_make_report(echoing):
    said = make("report", "RUNS=a folder", "OUT=page.html", folder=echoing).splitlines()[2:]
    assert said == ["report", "--runs", "a folder", "--out", "page.html"]
