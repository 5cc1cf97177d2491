"""What the set-up finds out about a machine, and what it decides from that."""

import ast
import os
import sys
from pathlib import Path

import pytest

from genreward_jax import machine
from genreward_jax.machine import SetupError, choose_python, jax_extra, missing_packages, names_of, opengl

ROOT = Path(__file__).resolve().parent.parent

# --- nvidia-smi: what drivers of several ages print, and how it fails -----------------------------------------

TABLE = """Thu Oct 23 09:14:02 2026
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI {driver:<23}Driver Version: {driver:<15}CUDA Version: {cuda:<9}|
|-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |
|                                         |                        |               MIG M. |
|=========================================+========================+======================|
|   0  {gpu:<27}       On  |   00000000:18:00.0 Off |                    0 |
| N/A   31C    P0             76W /  700W |       0MiB / 143771MiB |      0%      Default |
|                                         |                        |             Disabled |
+-----------------------------------------+------------------------+----------------------+
+-----------------------------------------------------------------------------------------+
| Processes:                                                                              |
|  No running processes found                                                             |
+-----------------------------------------------------------------------------------------+
"""
OLD_TABLE = """Tue Mar  3 18:40:11 2020
+-----------------------------------------------------------------------------+
| NVIDIA-SMI 440.33.01    Driver Version: 440.33.01    CUDA Version: 10.2     |
|-------------------------------+----------------------+----------------------+
| GPU  Name        Persistence-M| Bus-Id        Disp.A | Volatile Uncorr. ECC |
| Fan  Temp  Perf  Pwr:Usage/Cap|         Memory-Usage | GPU-Util  Compute M. |
|===============================+======================+======================|
|   0  Tesla K80           Off  | 00000000:00:1E.0 Off |                    0 |
| N/A   41C    P8    29W / 149W |      0MiB / 11441MiB |      0%      Default |
+-------------------------------+----------------------+----------------------+
"""
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running.\n"
)
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.163\n"


@pytest.mark.parametrize(
    ("driver", "extra"),
    [
        ("590.44.01", "cuda13"),
        ("580.159.03", "cuda13"),
        ("580.65.06", "cuda13"),
        ("575.57.08", "cuda12"),
        ("550.163.01", "cuda12"),
        ("525.60.13", "cuda12"),
        ("520.61.05", ""),
        ("1000.10.01", "cuda13"),
    ],
)
def test_driver_chooses_jax_extra(driver, extra):
    smi = TABLE.format(driver=driver, cuda="13.0", gpu="NVIDIA H200")
    assert machine.driver_of(smi) == int(driver.split(".")[0])
    assert jax_extra(smi) == extra


@pytest.mark.parametrize("smi", ["", OLD_TABLE, NO_DRIVER, MISMATCH, "No devices were found\n"])
def test_no_extra_without_a_usable_gpu(smi):
    assert jax_extra(smi) == ""
    assert "CPU" in machine.gpu_sentence(smi)


def test_failing_nvidia_smi_counts_as_none(tmp_path, monkeypatch):
    """Its sentence of complaint comes on standard output, with an exit code; a driver number in it must not count."""
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho 'Driver Version: 580.65.06'\nexit 9\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert machine.nvidia_smi() == ""
    fake.write_text("#!/bin/sh\necho 'Driver Version: 580.65.06'\n")
    assert jax_extra(machine.nvidia_smi()) == "cuda13"


# --- Python ---------------------------------------------------------------------------------------------------


def test_a_gpu_is_ruled_out_only_where_linux_shows_none(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "GPU_DEVICES", (str(tmp_path / "nvidiactl"), str(tmp_path / "dri")))
    assert machine.surely_no_gpu("linux") and not machine.surely_no_gpu("darwin")
    (tmp_path / "dri").mkdir()
    assert not machine.surely_no_gpu("linux")


def versions(**known):
    return lambda python: known.get(python.replace(".", "_"), ())


def test_named_python_is_taken_or_refused_in_a_sentence():
    known = versions(mine=(3, 12), old=(3, 10))
    assert choose_python("mine", "old", known) == "mine"
    with pytest.raises(SetupError, match=r"PYTHON=old is Python 3\.10; this needs Python 3\.11 or 3\.12"):
        choose_python("old", "mine", known)
    with pytest.raises(SetupError, match="PYTHON=gone does not start"):
        choose_python("gone", "mine", known)


def test_unnamed_python_is_the_running_one_or_another_on_the_path():
    assert choose_python("", "here", versions(here=(3, 11), python3_12=(3, 12))) == "here"
    assert choose_python("", "here", versions(here=(3, 13), python3_11=(3, 11))) == "python3.11"
    with pytest.raises(SetupError, match=r"python3 is 3\.13.*PYTHON="):
        choose_python("", "here", versions(here=(3, 13)))


def test_version_of_asks_the_interpreter():
    assert machine.version_of(sys.executable) == sys.version_info[:2]
    assert machine.version_of("/nowhere/python") == ()


def test_bootstrap_speaks_to_old_pythons():
    """An old python3 must get our sentence and not a SyntaxError: nothing newer than 3.6 in what it reads."""
    for name in ("__init__", "bootstrap", "machine", "cli/__init__", "cli/doctor"):
        ast.parse((ROOT / "genreward_jax" / f"{name}.py").read_text(), feature_version=(3, 6))


# --- System packages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("libraries", "found"),
    [
        (["libOSMesa.so.8"], "osmesa"),
        (["libOSMesa.so.6", "libEGL.so.1"], "osmesa"),
        (["libEGL.so.1", "libEGL_mesa.so.0", "libOpenGL.so.0"], "egl"),
        (["libEGL.so.1", "libEGL_nvidia.so.0", "libGL.so.1"], "egl"),
        (["libEGL.so.1", "libGL.so.1"], ""),  # the switch without a driver behind it
        (["libEGL.so.1", "libEGL_mesa.so.0"], ""),  # PyOpenGL would not import
        ([], ""),
    ],
)
def test_opengl_is_what_the_linker_finds(libraries, found):
    assert opengl(lambda name: name in libraries) == found


def test_missing_packages_and_their_names():
    version = ".".join(map(str, sys.version_info[:2]))
    nothing, everything = (lambda name: False), (lambda name: True)
    assert missing_packages(sys.executable, everything, everything, "linux") == []
    missing = missing_packages(sys.executable, nothing, nothing, "linux")
    assert names_of(missing, everything) == ["libosmesa6", f"python{version}-venv"]
    # A distribution whose Mesa has no OSMesa any more, and one whose lists are empty.
    assert names_of(missing, lambda name: name == "libegl1")[:2] == ["libegl1", "libopengl0"]
    assert names_of(missing, nothing) == ["libosmesa6", f"python{version}-venv"]
    assert missing_packages(sys.executable, nothing, everything, "darwin") == []


def fake_system(tmp_path, monkeypatch, uid, works=True):
    """A machine without OpenGL whose apt-get writes down what it is asked, and brings OpenGL if it ``works``."""
    calls = tmp_path / "calls"
    for name, code in {"apt-get": 0 if works else 100, "apt-cache": 0}.items():
        tool = tmp_path / name
        tool.write_text(f'#!/bin/sh\necho "{name} $@" | tee -a {calls}\n[ $1 = update ] || exit {code}\n')
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    installed = lambda: works and calls.exists() and "apt-get install" in calls.read_text()  # noqa: E731
    monkeypatch.setattr(machine, "missing_packages", lambda python: [] if installed() else [machine.GL_PACKAGES])
    return calls


def test_root_gets_the_packages_installed(tmp_path, monkeypatch):
    calls = fake_system(tmp_path, monkeypatch, uid=0)
    said = []
    machine.mend_system("python3", said.append)
    assert calls.read_text().splitlines()[-1] == "apt-get install -y --no-install-recommends libosmesa6"
    assert any("apt-get install" in line for line in said)


def test_others_get_the_one_command(tmp_path, monkeypatch):
    calls = fake_system(tmp_path, monkeypatch, uid=1000)
    with pytest.raises(SetupError, match="run 'sudo apt-get install -y --no-install-recommends libosmesa6'"):
        machine.mend_system("python3", print)
    assert "apt-get" not in calls.read_text()


def test_a_failing_apt_get_is_said(tmp_path, monkeypatch):
    fake_system(tmp_path, monkeypatch, uid=0, works=False)
    with pytest.raises(SetupError, match="apt-get did not bring libosmesa6"):
        machine.mend_system("python3", print)
