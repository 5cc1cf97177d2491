"""The doctor: each lack has a line with what mends it, and it answers when half is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from genreward_jax.cli import doctor
from genreward_jax.cli.doctor import OK, WARN, WRONG

ROOT = Path(__file__).resolve().parent.parent
SMI = "| NVIDIA-SMI 580.65.06   Driver Version: 580.65.06   CUDA Version: 13.0 |"
JAX_CPU = {"platform": "cpu", "kind": "cpu", "count": 1}
JAX_GPU = {"platform": "gpu", "kind": "NVIDIA H200", "count": 1}
TORCH_CPU = {"version": "2.13.0+cpu", "cuda": ""}
TORCH_GPU = {"version": "2.13.0", "cuda": "NVIDIA H200"}


def states(lines):
    for state, text, mend in lines:
        assert text
        assert bool(mend) == (state != OK), f"what mends '{text}'?"
    return [state for state, _, _ in lines]


def test_pins_follow_the_python():
    text = '# no\njax==1.0; python_version < "3.12"\njax==2.0; python_version >= "3.12"\nnumpy==3.1\n'
    assert doctor.read_pins(text, (3, 11)) == {"jax": "1.0", "numpy": "3.1"}
    assert doctor.read_pins(text, (3, 12)) == {"jax": "2.0", "numpy": "3.1"}


def test_every_line_of_constraints_is_a_pin():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    either = {**doctor.read_pins("\n".join(lines), (3, 11)), **doctor.read_pins("\n".join(lines), (3, 12))}
    assert len(either) == len({line.split("==")[0] for line in lines})


def test_packages_are_compared_with_the_pins():
    there = {name: "1.0" for name in doctor.SHOWN} | {"torch": "1.0+cpu", "extra": "2.0"}
    pins = {"torch": "1.0", "jax": "1.1", "extra": "2.0", "wandb": "9.0"}
    lines = doctor.check_packages(pins, {"torch", "gone"}, lambda name: there.get(name, ""))
    assert states(lines) == [OK, WRONG, WARN]
    assert lines[1][1] == "not installed: gone"
    assert lines[2][1] == "jax is 1.0; tested with 1.1"


@pytest.mark.parametrize(
    ("jax", "torch", "smi", "expected"),
    [
        (JAX_CPU, TORCH_CPU, "", [OK, OK]),
        (JAX_GPU, TORCH_GPU, SMI, [OK, OK, OK]),
        (JAX_CPU, TORCH_GPU, SMI, [OK, WRONG, OK]),  # a GPU that JAX was not installed for
        (JAX_GPU, TORCH_CPU, SMI, [OK, OK, WARN]),
        (JAX_CPU, TORCH_CPU, SMI.replace("580", "470"), [WARN, OK, OK]),
        ({"error": "no answer within 180 s"}, {"error": "ImportError: x"}, "", [WRONG, WRONG]),
    ],
)
def test_devices(jax, torch, smi, expected):
    assert states(doctor.check_devices(jax, torch, smi)) == expected


def test_rendering_dreamer_and_models():
    works = {"backend": "osmesa", "renderer": "llvmpipe", "software": True, "error": ""}
    assert states(doctor.check_rendering(works, "apt-get ...")) == [OK]
    assert states(doctor.check_rendering({**works, "error": "no"}, "apt-get ...")) == [WRONG]
    assert states(doctor.check_dreamer({"version": "3.3.1"})) == [OK]
    assert states(doctor.check_dreamer({"error": "No module named 'embodied'"})) == [WRONG]
    family = {"name": "x", "trained": False, "frame_size": 64, "folders": {"vae": "/a", "clip": "/b"}}
    assert states(doctor.check_models("embedded", family)) == [OK, OK, OK]
    assert "random weights" in doctor.check_models("embedded", family)[0][1]
    assert states(doctor.check_models("no/such", {"error": "not on this disk"})) == [WRONG]


def test_room():
    assert states(doctor.check_room(24, 80, 12, 2)) == [OK]
    assert states(doctor.check_room(8, 3, 0.064, 2)) == [WARN, WARN, WRONG]  # 64 MB is what Docker gives


def test_python():
    assert states(doctor.check_python((3, 12))) == [OK]


def test_ask_gives_the_answer_or_the_reason():
    assert doctor.ask("import sys; print('noise'); print('{\"x\": \"%s\"}' % sys.argv[1])", "a b") == {"x": "a b"}
    assert doctor.ask("raise ImportError('no such thing')")["error"] == "ImportError: no such thing"
    assert doctor.ask("import os; os._exit(3)")["error"] == "it ended with code 3"
    assert doctor.ask("import time; time.sleep(60)", timeout=0.5)["error"].startswith("no answer")


def test_exit_code_says_whether_anything_needed_is_wrong(monkeypatch, capsys):
    monkeypatch.setattr(doctor.machine, "missing_packages", lambda *args, **kwargs: [])
    monkeypatch.setattr(doctor.machine, "nvidia_smi", lambda: "")
    answers = {
        doctor.DREAMER_PROBE: {"version": "3.3.1"},
        doctor.RENDER_PROBE: {"backend": "osmesa", "renderer": "llvmpipe", "software": True, "error": ""},
        doctor.JAX_PROBE: JAX_CPU,
        doctor.TORCH_PROBE: TORCH_CPU,
        doctor.MODEL_PROBE: {"name": "x", "trained": True, "frame_size": 64, "folders": {}},
    }
    monkeypatch.setattr(doctor, "ask", lambda code, *arguments: answers[code])
    monkeypatch.setattr(doctor, "check_checkout", lambda: [])
    monkeypatch.setattr(doctor, "check_packages", lambda pins, required: [])
    monkeypatch.setattr(doctor, "room", lambda: [])
    assert doctor.run([]) == 0
    assert "Ready to train." in capsys.readouterr().out
    answers[doctor.JAX_PROBE] = {"error": "broken"}
    assert doctor.run([]) == 1
    assert "WRONG  JAX: broken\n       -> make setup" in capsys.readouterr().out


def test_answers_right_after_git_clone(tmp_path):
    """No .venv, none of our packages: still a list of what is there and what is not, and exit code 1."""
    shutil.copytree(ROOT / "genreward_jax", tmp_path / "genreward_jax", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    bare = os.path.realpath(sys.executable)  # the Python behind the .venv, isolated from its packages
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; from genreward_jax.cli.doctor import run; sys.exit(run([]))"
    )
    done = subprocess.run([bare, "-I", "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "there is no .venv\n       -> make setup" in done.stdout
    assert "nothing is installed yet" in done.stdout
