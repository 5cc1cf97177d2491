"""Building the official code's wheel: only the tested archive, completed, installed once."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile

import pytest

from dreamerv3_patches import build
from genreward_jax.errors import UserError


@pytest.fixture
def sdist(tmp_path, monkeypatch):
    """A stand-in for the sdist with the same two holes; its hash is made the known one."""
    files = {
        "setup.py": "import setuptools\nsetuptools.setup(name='dreamer', version='3.3.1',"
        " install_requires=open('requirements.txt').read().split(), packages=['embodied', 'embodied.envs'])\n",
        "embodied/__init__.py": "from . import envs\n",
    }
    path = tmp_path / "dreamer-3.3.1.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(f"dreamer-3.3.1/{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    monkeypatch.setattr(build, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_a_tampered_archive_is_refused_before_it_is_unpacked(sdist, tmp_path, capsys):
    sdist.write_bytes(sdist.read_bytes() + b"\0")
    with pytest.raises(UserError, match="sha256.*not the release that was tested"):
        build.unpack(sdist, tmp_path / "source")
    assert not (tmp_path / "source").exists()
    assert build.main(["--sdist", str(sdist), "--wheel-dir", str(tmp_path / "wheels")]) == 2
    assert not (tmp_path / "wheels").exists()
    assert "sha256" in capsys.readouterr().err


def test_the_holes_are_filled_and_the_wheel_holds_them(sdist, tmp_path):
    assert build.main(["--sdist", str(sdist), "--wheel-dir", str(tmp_path / "wheels")]) == 0
    (wheel,) = (tmp_path / "wheels").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        assert "embodied/envs/__init__.py" in archive.namelist()
        metadata = archive.read("dreamer-3.3.1.dist-info/METADATA").decode()
    assert "Requires-Dist" not in metadata  # upstream's stale pins stay out


def test_the_second_run_finds_it_installed(capsys, monkeypatch):
    monkeypatch.setattr(build, "fetch", None)  # would raise
    assert build.main([]) == 0
    assert "installed already" in capsys.readouterr().out


def test_an_interpreter_without_it_is_known_as_such(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    assert not build.installed(str(tmp_path / "venv/bin/python"))


def test_pips_index_settings_reach_the_fetch(tmp_path, monkeypatch):
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nindex-url = https://a.example/simple\nextra-index-url =\n  https://b.example/simple\n")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    options = build.index_options()
    assert options == ["--index-url", "https://a.example/simple", "--index-url", "https://b.example/simple"]
    monkeypatch.setenv("PIP_INDEX_URL", "https://c.example/simple")
    assert build.index_options()[1] == "https://c.example/simple"


def test_runs_before_anything_is_installed(tmp_path):
    """Standard library only at import: no jax, no numpy."""
    code = "import sys; sys.modules.update(dict.fromkeys(['numpy', 'jax', 'unearth', 'elements'])); "
    subprocess.run([sys.executable, "-S", "-c", code + "import dreamerv3_patches.build"], check=True, cwd=build_root())


def build_root():
    return os.path.dirname(os.path.dirname(os.path.abspath(build.__file__)))
