"""What this machine has and lacks: Python, OpenGL, an NVIDIA driver, Debian packages.

Used by the set-up and the doctor before anything is installed, under whatever ``python3`` the system has: only the
standard library, and no syntax newer than Python 3.6.
"""

import ctypes
import os
import re
import shutil
import subprocess
import sys

SUPPORTED = ((3, 11), (3, 12))
# The first that the distribution knows is taken: newer Mesa has dropped OSMesa.
GL_PACKAGES = (("libosmesa6",), ("libegl1", "libopengl0", "libgl1", "libgl1-mesa-dri"))
CUDA_EXTRAS = ((580, "cuda13"), (525, "cuda12"))  # oldest driver for each extra, from JAX's installation page


class SetupError(Exception):
    """What is wrong and what mends it, in a sentence; ends the set-up with exit code 2."""


def output_of(command: list, timeout: float = 60.0) -> str:
    """Standard output of a program that ends well; '' if there is no such program, it fails or it hangs."""
    try:
        found = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=timeout)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.decode(errors="replace") if found.returncode == 0 else ""


# --- Python ---------------------------------------------------------------------------------------------------


def version_of(python: str) -> tuple:
    """(major, minor) of an interpreter; () if it does not start (a pyenv shim of a version that is not chosen)."""
    text = output_of([python, "-c", "import sys; print(sys.version_info[0], sys.version_info[1])"])
    return tuple(int(part) for part in text.split())


def dotted(version: tuple) -> str:
    return ".".join(str(part) for part in version)


def choose_python(wanted: str, running: str = sys.executable, version=version_of) -> str:
    """The interpreter to build the ``.venv`` on: ``wanted`` if given, else the running one or one on the PATH.

    Raises:
        SetupError: it is not, or none of them is, a Python 3.11 or 3.12.
    """
    if wanted:
        found = version(wanted)
        if found in SUPPORTED:
            return wanted
        what = "is Python " + dotted(found) if found else "does not start"
        raise SetupError(f"PYTHON={wanted} {what}; this needs Python 3.11 or 3.12, as in PYTHON=/usr/bin/python3.12")
    for python in (running, "python3.12", "python3.11"):
        if version(python) in SUPPORTED:
            return python
    raise SetupError(
        f"This needs Python 3.11 or 3.12, and python3 is {dotted(version(running))}: "
        "install one of them and name it, as in make setup PYTHON=/usr/bin/python3.12"
    )


def can_make_venv(python: str) -> bool:
    """Whether ``venv`` works. Debian and Ubuntu split its part ``ensurepip`` off into a package of its own."""
    return output_of([python, "-c", "import venv, ensurepip; print(1)"]) != ""


# --- OpenGL and GPU -------------------------------------------------------------------------------------------


def can_load(library: str) -> bool:
    """Whether the dynamic linker finds a library, whoever installed it."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def opengl(load=can_load) -> str:
    """How MuJoCo can draw without a screen: 'osmesa', 'egl' or ''."""
    if any(load(name) for name in ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so")):
        return "osmesa"
    # EGL's front only passes on: it needs a driver behind it, and PyOpenGL asks for plain OpenGL beside it.
    driver = load("libEGL_nvidia.so.0") or load("libEGL_mesa.so.0")
    if load("libEGL.so.1") and driver and (load("libOpenGL.so.0") or load("libGL.so.1")):
        return "egl"
    return ""


NVIDIA_DEVICES = ("/proc/driver/nvidia/version", "/dev/nvidiactl")
GPU_DEVICES = (*NVIDIA_DEVICES, "/dev/dri", "/dev/dxg", "/dev/nvhost-gpu")  # any maker's, Windows' and Jetson's too


def shows(devices: tuple) -> bool:
    """Whether Linux shows one of these files."""
    return any(os.path.exists(name) for name in devices)


def surely_no_gpu(platform: str = sys.platform) -> bool:
    """Whether no GPU can draw here: Linux shows a device for each. Elsewhere that cannot be told."""
    return platform == "linux" and not shows(GPU_DEVICES)


def nvidia_smi() -> str:
    """What ``nvidia-smi`` prints; '' where there is none or it fails."""
    return output_of(["nvidia-smi"])


def driver_of(smi: str) -> int:
    """Main number of the driver in the output of ``nvidia-smi`` (580 in 580.65.06), 0 if none or no GPU is shown."""
    found = re.search(r"Driver Version:\s*(\d+)\.", smi)
    return int(found.group(1)) if found and "No devices were found" not in smi else 0


def jax_extra(smi: str) -> str:
    """The extra of setup.cfg that brings JAX to the GPU: 'cuda13', 'cuda12', or '' without a usable driver."""
    for oldest, extra in CUDA_EXTRAS:
        if driver_of(smi) >= oldest:
            return extra
    return ""


def gpu_sentence(smi: str) -> str:
    """What the set-up says about the GPU that ``nvidia-smi`` shows, or about there being none."""
    driver, extra = driver_of(smi), jax_extra(smi)
    if extra:
        return f"NVIDIA driver {driver}: JAX with {extra}."
    oldest = CUDA_EXTRAS[-1][0]
    return (
        f"NVIDIA driver {driver} is older than {oldest}: all runs on the CPU."
        if driver
        else "none: all runs on the CPU."
    )


# --- Debian packages ------------------------------------------------------------------------------------------


def missing_packages(python: str, load=can_load, can_venv=can_make_venv, platform: str = sys.platform) -> list:
    """What the system lacks: for each lack, the sets of Debian packages that mend it, best first."""
    missing = []
    if platform == "linux" and not opengl(load):
        missing.append(GL_PACKAGES)
    if not can_venv(python):
        missing.append(((f"python{dotted(version_of(python))}-venv",), ("python3-venv",)))
    return missing


def apt_knows(package: str) -> bool:
    return output_of(["apt-cache", "show", package]).strip() != ""


def names_of(missing: list, known=apt_knows) -> list:
    """The Debian packages to install: for each lack, the first set that the distribution knows, else the first."""
    names = []
    for sets in missing:
        names += next((packages for packages in sets if known(packages[0])), sets[0])
    return names


def mend_system(python: str, say=print) -> None:
    """Installs what the system lacks where this is root on a Debian or Ubuntu; does nothing where nothing lacks.

    Raises:
        SetupError: it is not root (with the one command to run), there is no apt-get, or apt-get failed.
    """
    missing = missing_packages(python)
    if not missing:
        return
    may = bool(shutil.which("apt-get")) and os.geteuid() == 0
    if may:
        say("The system lacks a package, and this is root: asking apt-get for it.")
        output_of(["apt-get", "update"], timeout=600)
    names = names_of(missing)
    command = ["apt-get", "install", "-y", "--no-install-recommends", *names]
    if not shutil.which("apt-get"):
        raise SetupError(f"The system lacks what Debian calls {' '.join(names)}: install that, then do this again.")
    if not may:
        raise SetupError(f"The system lacks {' '.join(names)}: run 'sudo {' '.join(command)}', then do this again.")
    say(" ".join(command))
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode != 0 or missing_packages(python):
        say(done.stdout.decode(errors="replace")[-1500:])
        raise SetupError(f"apt-get did not bring {' '.join(names)}: run '{' '.join(command)}' by hand to see why.")
