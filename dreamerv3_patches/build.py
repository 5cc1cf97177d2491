"""Fetches the official DreamerV3 from the package registry, completes it, builds its wheel and installs it.

    python -m dreamerv3_patches.build [--target-python PY] [--wheel-dir DIR] [--sdist FILE]

The distribution ``dreamer`` 3.3.1 exists as an sdist only, which does not install as it is: its ``setup.py`` reads a
``requirements.txt`` and its ``embodied/__init__.py`` imports a package ``envs`` that were both left out. The archive is
fetched by name through the ordinary index settings, compared with a known hash, completed in a temporary folder, and
never copied into this repository. Runs on the standard library and the registry package ``unearth``.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from genreward_jax.errors import UserError

NAME, VERSION = "dreamer", "3.3.1"
SHA256 = "b6dca5e1039bb632b48421ea0e2722b2d06557b2e94b24669272c69d6b983d03"
# What the sdist lacks. Its own pins (jax 0.4.33, numpy below 2) are stale, and setup.cfg names ours: no requirements.
MISSING = {
    "requirements.txt": "",
    "embodied/envs/__init__.py": '"""Left out of the sdist; our environments live elsewhere."""\n',
}

# Run by the target interpreter: prints the version if the distribution is there and complete.
PROBE = f"""
import importlib.metadata as m
try:
    d = m.distribution({NAME!r})
    if any(str(f) == 'embodied/envs/__init__.py' and f.locate().exists() for f in d.files or []):
        print(d.version)
except m.PackageNotFoundError:
    pass
"""


def main(arguments: list[str] | None = None) -> int:
    """Does what the module's text says; exit code 0, or 2 with one sentence about what the user has to mend."""
    parser = argparse.ArgumentParser(prog="python -m dreamerv3_patches.build", description=__doc__.split("\n")[0])
    parser.add_argument("--target-python", default=sys.executable, help="interpreter to install into (this one)")
    parser.add_argument("--wheel-dir", type=Path, help="put the wheel here and install nothing")
    parser.add_argument("--sdist", type=Path, help="use this file instead of fetching it")
    args = parser.parse_args(arguments)
    try:
        if args.wheel_dir is None and installed(args.target_python):
            print(f"{NAME} {VERSION} is installed already.")
            return 0
        with tempfile.TemporaryDirectory(prefix="dreamer-") as scratch:
            archive = args.sdist or fetch(Path(scratch) / "download")
            source = unpack(archive, Path(scratch) / "source")
            wheel = build(source, args.wheel_dir or Path(scratch) / "wheel")
            if args.wheel_dir is None:
                install(wheel, args.target_python)
    except UserError as error:
        print(f"dreamerv3_patches.build: {error}", file=sys.stderr)
        return 2
    return 0


def installed(python: str) -> bool:
    """Whether that interpreter has the completed distribution in the version we patch."""
    result = subprocess.run([python, "-c", PROBE], capture_output=True, text=True)
    return result.stdout.strip() == VERSION


def fetch(folder: Path) -> Path:
    """Downloads the sdist without running any of it; returns the archive.

    Raises:
        UserError: ``unearth`` is not installed, or no index has the distribution.
    """
    print(f"Fetching {NAME} {VERSION} from the package registry.", flush=True)
    requirement, options = f"{NAME}=={VERSION}", index_options()
    command = [sys.executable, "-m", "unearth", requirement, "--no-binary", *options, "--download", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment())
    if "No module named unearth" in result.stderr:
        raise UserError("unearth, which fetches the official code, is not installed: python -m pip install unearth")
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"{requirement} could not be fetched ({last}); check the network and pip's index settings.")
    return Path(json.loads(result.stdout)["local_path"])


def index_options() -> list[str]:
    """pip's own index settings, from its files and the environment, as options of ``unearth``."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True).stdout
    found: dict[str, list[str]] = {}
    for section in ("global", "download", ":env:"):  # the later wins
        for line in listed.splitlines():
            key, _, value = line.partition("=")
            if key.strip().startswith(f"{section}."):
                name = key.strip().removeprefix(f"{section}.")
                found[name] = value.strip().strip("'\"").replace("\\n", " ").split()
    if not found.get("index-url"):  # unearth's own default is pip's; named one index more, it would drop it
        return []
    options = ["--index-url", found["index-url"][-1]]  # the environment is listed last and wins
    for name, option in (("extra-index-url", "--index-url"), ("trusted-host", "--trusted-host")):
        options += [word for value in found.get(name, []) for word in (option, value)]
    return options


def environment() -> dict[str, str]:
    """The environment, with pip's certificates for programs that look under the common name."""
    variables = dict(os.environ)
    if "PIP_CERT" in variables:
        variables.setdefault("SSL_CERT_FILE", variables["PIP_CERT"])
    return variables


def unpack(archive: Path, folder: Path) -> Path:
    """Checks the archive's hash, unpacks it, adds what it lacks; returns the source folder.

    Raises:
        UserError: There is no such file, or it is not the one that was tested.
    """
    if not archive.is_file():
        raise UserError(f"{archive} is not a file; --sdist wants {NAME}-{VERSION}.tar.gz.")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != SHA256:
        raise UserError(
            f"{archive.name} has sha256 {digest} and not {SHA256}: it is not the release that was tested, "
            "so nothing was unpacked or installed; check which index it came from."
        )
    print("Its hash is the known one; adding the files it lacks.", flush=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder)  # its hash is known, and Python 3.11.2 (Debian 12) has no filters yet
    source = folder / f"{NAME}-{VERSION}"
    for name, text in MISSING.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return source


def build(source: Path, folder: Path) -> Path:
    """Builds the wheel (pure Python, good for any interpreter) and returns it."""
    print("Building its wheel.", flush=True)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(folder), str(source)]
    try:
        run([*command, "--no-build-isolation", "--no-index"], "wheel could not be built")
    except UserError:  # setuptools here is too old or absent: let pip fetch one for the purpose
        run(command, "wheel could not be built")
    (wheel,) = folder.glob(f"{NAME}-{VERSION}-*.whl")
    return wheel


def install(wheel: Path, python: str) -> None:
    """Installs the wheel, and nothing else, over whatever version is there."""
    print(f"Installing it into {python}.", flush=True)
    options = ["--no-deps", "--no-index", "--force-reinstall"]
    run([python, "-m", "pip", "install", "--quiet", *options, str(wheel)], "wheel could not be installed")
    if not installed(python):
        raise UserError(f"{NAME} {VERSION} was installed but {python} does not find it; is that a virtual environment?")


def run(command: list[str], wrong: str) -> None:
    """Runs pip quietly.

    Raises:
        UserError: It failed; the end of what it said.
    """
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        said = [line.strip() for line in result.stderr.splitlines() if "error" in line.lower()]
        raise UserError(f"The official DreamerV3's {wrong}: {' / '.join(said[:3]) or result.stderr.strip()[-300:]}")


if __name__ == "__main__":
    sys.exit(main())
