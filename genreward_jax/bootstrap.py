"""Sets the checkout up: a ``.venv`` in it with the tested versions of everything, and nothing global.

    python3 -m genreward_jax.bootstrap               # set up, or mend what a broken-off set-up left
    python3 -m genreward_jax.bootstrap --if-needed   # the same, silent and at once where all is there
    python3 -m genreward_jax.bootstrap --again       # look at everything again, after a new GPU driver say

Environment: ``PYTHON`` (the interpreter to build on) and ``TORCH_INDEX`` (another package index, for torch alone).
Runs under whatever ``python3`` the system has, to tell it when it is too old: only the standard library, and no
syntax newer than Python 3.6.
"""

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from genreward_jax import machine
from genreward_jax.machine import SUPPORTED, SetupError, dotted, version_of

ROOT = Path(__file__).resolve().parent.parent
# A change in one of these makes a set-up out of date. Contents count and not dates, which git changes at will.
INPUTS = ("setup.cfg", "setup.py", "pyproject.toml", "constraints.txt", "genreward_jax/bootstrap.py")
INPUTS += ("genreward_jax/machine.py", "dreamerv3_patches/build.py")
# With these come nearly all of the packages that a run, its model process, its environments and the tests import (not
# OpenGL's, which import only where it draws). Classes are named too: diffusers and transformers import what stands
# behind a name when it is asked for.
IMPORTED = ("genreward_jax.train", "genreward_jax.artist", "dreamerv3_patches.agent", "metaworld")
IMPORTED += ("torch_bridge.models", "torch_bridge.server")
IMPORTED += ("torch_bridge.cogvideox", "torch_bridge.dinov3", "torch_bridge.openclip")
IMPORTED += ("open_clip", "tensorboardX", "matplotlib.pyplot", "av", "pytest")
IMPORTED += ("diffusers:AutoencoderKLCogVideoX", "diffusers:CogVideoXImageToVideoPipeline")
IMPORTED += ("transformers:AutoTokenizer", "transformers:DINOv3ViTModel", "transformers:T5EncoderModel")


def say(text: str) -> None:
    print("  " + text, flush=True)


def clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def pinned(name: str, constraints: str) -> str:
    """The version to which the text of constraints.txt pins a package.

    Raises:
        SetupError: it does not name the package.
    """
    found = re.search(rf"(?m)^{re.escape(name)}==([^\s;]+)", constraints)
    if not found:
        raise SetupError(f"constraints.txt does not pin {name}: restore it with git checkout constraints.txt")
    return found.group(1)


def half_installed(venv: Path) -> list:
    """Packages whose installation was killed: pip writes a package's list of files, RECORD, last of all."""
    return [
        info for info in sorted(venv.glob("lib/python*/site-packages/*.dist-info")) if not (info / "RECORD").exists()
    ]


class Setup:
    """One set-up of the checkout ``root``; what the tools print goes to ``.venv/setup.log``."""

    def __init__(self, root: Path, python: str = "", torch_index: str = ""):
        self.root, self.wanted = root, python
        self.venv = root / ".venv"
        self.python = self.venv / "bin" / "python"
        self.stamp = self.venv / "setup.json"
        self.log = self.venv / "setup.log"
        self.state = self._read_state()
        self.torch_index = torch_index or self.state.get("torch_index", "")

    def _read_state(self) -> dict:
        try:
            return json.loads(self.stamp.read_text())
        except (OSError, ValueError):
            return {}

    def key(self) -> str:
        """Digest of what a set-up depends on, the checkout's place included: a ``.venv`` cannot be moved."""
        digest = hashlib.sha256(str(self.root).encode())
        for name in INPUTS:
            path = self.root / name
            digest.update(name.encode() + b"\0" + (path.read_bytes() if path.exists() else b"") + b"\0")
        return digest.hexdigest()

    def is_done(self) -> bool:
        """Whether nothing is left to do. Starts no program but a ``PYTHON`` that was named: a second start is free."""
        if self.state.get("key") != self.key() or not self.python.exists():
            return False
        if self.torch_index != self.state.get("torch_index"):
            return False
        return not self.wanted or list(version_of(self.wanted)) == self.state.get("python")

    def run(self) -> None:
        """All steps in order. Each looks at what is there, so that a broken-off set-up goes on where it stopped.

        Raises:
            SetupError: something is missing that this may not install, or a step failed.
        """
        began = time.time()
        python = machine.choose_python(self.wanted)
        machine.mend_system(python, say)
        if self.stamp.exists():
            self.stamp.unlink()  # from here on the set-up counts as unfinished
        self.make_venv(python)
        smi = machine.nvidia_smi()
        say(f"NVIDIA GPU: {machine.gpu_sentence(smi)}")
        self.install(machine.jax_extra(smi))
        self.step("the official DreamerV3, completed and built from its release", ["-m", "dreamerv3_patches.build"])
        self.compile_imports()
        state = {"key": self.key(), "python": list(version_of(str(self.python))), "torch_index": self.torch_index}
        part = self.stamp.with_suffix(".part")
        part.write_text(json.dumps(state))
        part.replace(self.stamp)
        say(f"Set up in {clock(time.time() - began)}.")

    def make_venv(self, python: str) -> None:
        """Makes ``.venv``, or keeps the one that is there if it works and is of the wanted Python."""
        there = version_of(str(self.python)) if self.python.exists() else ()
        has_pip = there and machine.output_of([str(self.python), "-c", "import pip; print(1)"])
        if there in SUPPORTED and has_pip and (not self.wanted or there == version_of(self.wanted)):
            say(f".venv is there, with Python {dotted(there)}; adding what it lacks. All that pip says: {self.log}")
            for broken in half_installed(self.venv):
                say(f"{broken.name[:-10]} was broken off half-way and is installed again.")
                shutil.rmtree(str(broken))
            return
        again = " anew: the one there does not work or is of another Python" if self.venv.exists() else ""
        command = [python, "-m", "venv", "--clear", str(self.venv)]
        if subprocess.call(command, stdout=subprocess.DEVNULL) != 0:
            raise SetupError(f"Python could not make .venv: run '{' '.join(command)}' to see why.")
        say(f"Made .venv with Python {dotted(version_of(python))}{again}. All that pip says: {self.log}")

    def install(self, extra: str) -> None:
        """Our package, editable, with everything it needs at the pinned versions."""
        pip = ["-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
        # Compiling all of gigabytes of packages takes longer than compiling what gets imported: see compile_imports.
        pip += ["--no-compile", "--progress-bar", "off"]
        pins = ["-c", "constraints.txt"]
        self.step("pip and setuptools", [*pip, *pins, "pip", "setuptools"])
        torch = "torch==" + pinned("torch", (self.root / "constraints.txt").read_text())
        if self.torch_index:
            new = ["--force-reinstall"] if self.torch_index != self.state.get("torch_index") else []
            # What torch needs comes with the rest: an index for torch alone need not have it in our versions.
            index = ["--no-deps", "--index-url", self.torch_index]
            self.step(f"{torch}, from TORCH_INDEX", [*pip, *new, *index, torch])
        else:
            self.step(f"{torch} (large where it comes with CUDA: README.md, TORCH_INDEX)", [*pip, *pins, torch])
        extras = ",".join(["dev", extra] if extra else ["dev"])
        # compat: one line with the checkout's path, and not an import hook.
        what = ["--no-build-isolation", "--config-settings", "editable_mode=compat", "-e", f".[{extras}]"]
        self.step("JAX, Meta-World, the model libraries and the test tools", [*pip, *pins, *what])

    def compile_imports(self) -> None:
        """Where PYTHONDONTWRITEBYTECODE is set, as in many containers, Python would compile torch at every start.

        What we import is compiled here, once: a start of the model process took 17 s without, and 6 s with it.
        """
        if sys.dont_write_bytecode:
            what = "what is imported, compiled once, since PYTHONDONTWRITEBYTECODE is set"
            self.step(what, ["-E", "-c", import_program(IMPORTED)])  # -E: without that variable

    def step(self, what: str, arguments: list) -> None:
        """Runs the ``.venv``'s Python, its output in the log.

        Raises:
            SetupError: it failed; the end of its output has been shown.
        """
        say(f"- {what}")
        command = [str(self.python), *arguments]
        with self.log.open("ab") as log:
            log.write(("\n$ " + " ".join(shlex.quote(part) for part in command) + "\n").encode())
            log.flush()
            start = log.tell()
            process = subprocess.Popen(command, cwd=str(self.root), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            code = wait(process)
        if code == 0:
            return
        with self.log.open("rb") as log:
            log.seek(start)
            for line in log.read().decode(errors="replace").strip().splitlines()[-12:]:
                say("  " + line)
        raise SetupError(f"That step failed; {self.log} has all it said. The same command again goes on from here.")


def import_program(names: tuple) -> str:
    """A Python program that imports modules, and classes written as module:Class."""
    lines = ["from torch_bridge.repairs import repair_torchvision", "repair_torchvision()"]
    for name in names:
        module, _, inside = name.partition(":")
        lines.append(f"from {module} import {inside}" if inside else f"import {module}")
    return "\n".join(lines)


def wait(process: subprocess.Popen, every: float = 60.0) -> int:
    """Waits for a step and says once a minute that it still runs; ends it if we are interrupted."""
    began = time.time()
    try:
        while True:
            try:
                return process.wait(every)
            except subprocess.TimeoutExpired:
                say(f"  still at it after {clock(time.time() - began)}")
    except BaseException:
        process.terminate()
        process.wait()
        raise


def lock(root: Path) -> int:
    """One set-up of a checkout at a time: waits, and says so, while another one is at it."""
    handle = os.open(str(root), os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        say("Another set-up of this checkout is at it; waiting for it to end.")
        fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def main(arguments: list, root: Path = ROOT) -> int:
    """Exit code: 0 set up, 2 something the user has to mend (one sentence says what), 130 interrupted."""
    needed_only, again = "--if-needed" in arguments, "--again" in arguments
    wanted, index = os.environ.get("PYTHON", "").strip(), os.environ.get("TORCH_INDEX", "").strip()
    try:
        if needed_only and Setup(root, wanted, index).is_done():
            return 0
        print(f"Setting up {root}", flush=True)
        handle = lock(root)
        setup = Setup(root, wanted, index)
        if again or not setup.is_done():
            setup.run()
        elif not needed_only:
            say("All is there already; make doctor looks closer, make clean starts afresh.")
        os.close(handle)
    except SetupError as error:
        print(f"make: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nBroken off; the same command again goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
