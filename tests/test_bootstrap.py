"""The set-up: its steps, when it is done, and that it mends what was broken off."""

import json
import subprocess
import sys

import pytest

from genreward_jax import bootstrap, machine
from genreward_jax.bootstrap import IMPORTED, Setup, half_installed, import_program, pinned
from genreward_jax.machine import SetupError


@pytest.fixture
def checkout(tmp_path):
    """A checkout with the files that a set-up depends on and a ``.venv`` that nothing was installed into."""
    root = tmp_path / "a checkout"
    for name in bootstrap.INPUTS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"torch==9.8.7\n# {name}\n")
    bin_folder = root / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "python").symlink_to(sys.executable)
    return root


def record(setup):
    state = {"key": setup.key(), "python": list(sys.version_info[:2]), "torch_index": setup.torch_index}
    setup.stamp.write_text(json.dumps(state))


def test_done_until_something_it_depends_on_changes(checkout):
    assert not Setup(checkout).is_done()
    record(Setup(checkout))
    assert Setup(checkout).is_done()
    (checkout / "constraints.txt").touch()
    assert Setup(checkout).is_done(), "dates alone do not count"
    assert Setup(checkout, sys.executable).is_done()
    assert not Setup(checkout, "/nowhere/python").is_done()
    assert not Setup(checkout, torch_index="another").is_done()
    (checkout / "constraints.txt").write_text("torch==9.8.8\n")
    assert not Setup(checkout).is_done()


def test_a_moved_checkout_is_set_up_again(checkout):
    record(Setup(checkout))
    moved = checkout.with_name("moved")
    checkout.rename(moved)
    assert not Setup(moved).is_done()


def test_a_set_up_with_another_torch_index_stays_with_it(checkout):
    record(Setup(checkout, torch_index="https://somewhere/simple"))
    assert Setup(checkout).is_done()
    assert Setup(checkout).torch_index == "https://somewhere/simple"


def test_pins():
    assert pinned("torch", "torchvision==1.0\ntorch==2.13.0\n") == "2.13.0"
    assert pinned("jax", 'jax==1.0; python_version < "3.12"') == "1.0"
    with pytest.raises(SetupError, match="does not pin jax"):
        pinned("jax", "jaxlib==1.0\n")


def test_half_installed_packages_are_found(tmp_path):
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    for name, files in {"whole-1.0": ["METADATA", "RECORD"], "broken-1.0": ["METADATA"]}.items():
        (site / f"{name}.dist-info").mkdir(parents=True)
        for file in files:
            (site / f"{name}.dist-info" / file).touch()
    assert [info.name for info in half_installed(tmp_path)] == ["broken-1.0.dist-info"]


class Recorder(Setup):
    """A set-up that writes down the steps that would start programs."""

    def step(self, what, arguments):
        self.steps = [*getattr(self, "steps", []), arguments]


@pytest.fixture
def cpu_machine(monkeypatch):
    monkeypatch.setattr(machine, "mend_system", lambda python, say: None)
    monkeypatch.setattr(machine, "nvidia_smi", lambda: "")
    monkeypatch.setattr(sys, "dont_write_bytecode", False)


def test_steps_in_order_and_noted_at_the_end(checkout, cpu_machine, capsys):
    setup = Recorder(checkout)
    setup.run()
    names = [" ".join(step) for step in setup.steps]
    assert [name.split()[1] for name in names] == ["pip"] * 3 + ["dreamerv3_patches.build"]
    assert names[1].endswith("-c constraints.txt torch==9.8.7")  # before all that asks for some torch
    assert names[2].endswith("--no-build-isolation --config-settings editable_mode=compat -e .[dev]")
    assert Setup(checkout).is_done()
    assert "Set up in" in capsys.readouterr().out


def test_where_python_may_keep_no_bytecode_it_is_made_once(checkout, cpu_machine, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    setup = Recorder(checkout)
    setup.run()
    flag, option, program = setup.steps[-1]
    assert (flag, option) == ("-E", "-c")  # -E: the variable that forbids it does not count
    assert program == import_program(IMPORTED)
    assert import_program(("a.b", "c:D")).endswith("\nimport a.b\nfrom c import D")


def test_what_is_compiled_is_all_that_the_model_process_imports():
    """The libraries import what is behind a name when it is asked for: what is left out is compiled at every start."""
    program = f"""{import_program(IMPORTED)}
import sys
before = set(sys.modules)
from torch_bridge.models import ModelSet
ModelSet("embedded", {{"encode_video", "embed_image", "embed_text", "embed_state"}}, device="cpu")
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


def test_torch_index_is_for_torch_alone(checkout, cpu_machine):
    setup = Recorder(checkout, torch_index="https://somewhere/simple")
    setup.run()
    with_index = [step for step in setup.steps if "--index-url" in step]
    assert len(with_index) == 1
    assert with_index[0][-5:] == [
        "--force-reinstall",
        "--no-deps",
        "--index-url",
        "https://somewhere/simple",
        "torch==9.8.7",
    ]


def test_gpu_adds_its_extra(checkout, cpu_machine, monkeypatch):
    monkeypatch.setattr(
        machine, "nvidia_smi", lambda: "NVIDIA-SMI 580.65.06  Driver Version: 580.65.06  CUDA Version: 13.0"
    )
    setup = Recorder(checkout)
    setup.run()
    assert setup.steps[2][-1] == ".[dev,cuda13]"


def test_a_failing_step_names_the_log_and_leaves_the_set_up_unfinished(checkout, cpu_machine, monkeypatch, capsys):
    setup = Setup(checkout)
    record(setup)
    monkeypatch.setattr(
        setup, "install", lambda extra: setup.step("it", ["-c", "import sys; sys.exit('no such thing')"])
    )
    with pytest.raises(SetupError, match=r"setup\.log has all it said"):
        setup.run()
    assert "no such thing" in capsys.readouterr().out
    assert "no such thing" in setup.log.read_text()
    assert not Setup(checkout).is_done()


def test_a_venv_that_does_not_start_is_made_anew(checkout, monkeypatch):
    python = checkout / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    Setup(checkout).make_venv(sys.executable)
    assert machine.version_of(str(python)) == sys.version_info[:2]


def test_main_turns_lacks_into_exit_code_2(checkout, monkeypatch, capsys):
    monkeypatch.setenv("PYTHON", "/nowhere/python")
    assert bootstrap.main(["--if-needed"], checkout) == 2
    assert "PYTHON=/nowhere/python does not start" in capsys.readouterr().err


def test_main_is_silent_when_all_is_there(checkout, monkeypatch, capsys):
    monkeypatch.delenv("PYTHON", raising=False)
    monkeypatch.delenv("TORCH_INDEX", raising=False)
    record(Setup(checkout))
    assert bootstrap.main(["--if-needed"], checkout) == 0
    assert capsys.readouterr().out == ""
