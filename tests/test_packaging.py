"""The package: it builds without network, holds all rooms and the YAML files, and asks for what we pin."""

import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from genreward_jax.cli.doctor import read_pins

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Our wheel, built from a copy of the sources: building leaves folders behind."""
    folder = tmp_path_factory.mktemp("package")
    skip = shutil.ignore_patterns("__pycache__")
    for room in ("genreward_jax", "dreamerv3_patches", "torch_bridge", "configs"):
        shutil.copytree(ROOT / room, folder / room, ignore=skip)
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    command = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder / "out"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (folder / "out").glob("genreward_jax-*.whl")
    return path


def test_wheel_holds_every_module_and_the_yaml_files(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = [
        path for room in ("genreward_jax", "dreamerv3_patches", "torch_bridge") for path in (ROOT / room).rglob("*.py")
    ]
    assert {str(path.relative_to(ROOT)) for path in sources} <= names
    yamls = {
        f"genreward_jax/configs/{path.relative_to(ROOT / 'configs')}" for path in (ROOT / "configs").rglob("*.yaml")
    }
    assert yamls and yamls <= names
    assert {"genreward_jax/score/page.html", "genreward_jax/run_report/page.html"} <= names
    assert not [name for name in names if name.startswith(("tests", "configs", "build"))]


def test_installed_package_finds_its_configuration(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "from genreward_jax import config; print(config.configs_folder()); config.parse([])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "genreward_jax" / "configs")


def test_metadata(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    text = archive.read(name).decode()
    assert "Name: genreward-jax\n" in text
    assert re.search(r"Requires-Python: <3\.13,>=3\.11", text)
    assert not re.search(r"(?m)^Requires-Dist: dreamer\b", text), "its source distribution does not install"
    assert {"dev", "cuda12", "cuda13", "wandb", "scope"} <= set(re.findall(r"(?m)^Provides-Extra: (\S+)", text))


@pytest.mark.parametrize("python", [(3, 11), (3, 12)])
def test_all_that_is_asked_for_is_pinned_and_fits(python):
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    options = configparser.ConfigParser()
    options.read(ROOT / "setup.cfg")
    pins = {
        canonicalize_name(name): pin for name, pin in read_pins((ROOT / "constraints.txt").read_text(), python).items()
    }
    texts = [options["options"]["install_requires"], *options["options.extras_require"].values()]
    requirements = [Requirement(line) for text in texts for line in text.split("\n") if line.strip()]
    assert len(requirements) > 30
    for requirement in requirements:
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin, f"constraints.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(pin), f"{requirement} does not allow the pinned {pin}"
