"""``make doctor``: what is installed, what renders, which device and models are used, and what mends what is wrong.

Answers when half of it is missing: nothing but the standard library is imported here, whatever may crash or hang is
asked in a process of its own, and the syntax stays that of Python 3.6, since any ``python3`` may run it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from genreward_jax import machine
from genreward_jax.bootstrap import ROOT, Setup, clock
from genreward_jax.machine import SUPPORTED, dotted

OK, WARN, WRONG = "ok", "warn", "WRONG"
AGAIN = "make setup AGAIN=1"
# What is named with its version when all is well; every other pin of constraints.txt is compared too.
SHOWN = (
    "jax",
    "flax",
    "optax",
    "elements",
    "ninjax",
    "portal",
    "granular",
    "numpy",
    "metaworld",
    "mujoco",
    "gymnasium",
)
SHOWN += ("torch", "torchvision", "diffusers", "transformers", "open_clip_torch", "safetensors")
OPTIONAL = ("scope", "wandb")

JAX_PROBE = """
import json, jax
devices = jax.devices()
jax.block_until_ready(jax.numpy.ones((8, 8)) @ jax.numpy.ones((8, 8)))
print(json.dumps({"platform": devices[0].platform, "kind": devices[0].device_kind, "count": len(devices)}))
"""
TORCH_PROBE = """
import json, torch
from torch_bridge.repairs import repair_torchvision
repair_torchvision()
import diffusers, transformers, open_clip
cuda = torch.cuda.is_available()
print(json.dumps({"version": torch.__version__, "cuda": torch.cuda.get_device_name(0) if cuda else ""}))
"""
DREAMER_PROBE = """
import json
from importlib import metadata
from dreamerv3_patches.apply import apply
apply()
print(json.dumps({"version": metadata.version("dreamer")}))
"""
RENDER_PROBE = """
import json
from genreward_jax.envs.rendering import render_info
print(json.dumps(render_info()))
"""
MODEL_PROBE = """
import json, sys
from torch_bridge import families
family = families.resolve(sys.argv[1])
folders = {}
for capability, kind in families.MODEL_OF.items():
    if kind in family.sources:
        folders[kind] = str(families.model_folder(kind, family.sources[kind], capability))
print(json.dumps({"name": family.name, "trained": family.trained, "frame_size": family.frame_size, "folders": folders}))
"""


def ask(code: str, *arguments: str, timeout: float = 180.0) -> dict:
    """The dictionary that a short program prints last, run by this Python; {'error': why} if it gives none.

    The hub is not asked: the doctor tells what is here.
    """
    paths = [str(ROOT)] + [path for path in [os.environ.get("PYTHONPATH")] if path]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(paths), HF_HUB_OFFLINE="1", TF_CPP_MIN_LOG_LEVEL="3")
    command = [sys.executable, "-c", code, *arguments]
    pipe = subprocess.PIPE
    try:
        done = subprocess.run(
            command, env=environment, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return {"error": "no answer within " + clock(timeout)}
    try:
        return json.loads(done.stdout.decode(errors="replace").strip().splitlines()[-1])
    except (IndexError, ValueError):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        return {"error": said[-1] if said else f"it ended with code {done.returncode}"}


def check_python(version: tuple = sys.version_info[:2]) -> list:
    """The running Python, or another one that the set-up would find."""
    if version in SUPPORTED:
        return [(OK, f"Python {dotted(version)}, {sys.executable}", "")]
    try:
        return [(OK, f"Python {dotted(version)} runs this; the set-up will take {machine.choose_python('')}", "")]
    except machine.SetupError:
        mend = "install Python 3.11 or 3.12 and name it: make setup PYTHON=/usr/bin/python3.12"
        return [(WRONG, f"Python {dotted(version)}; this needs 3.11 or 3.12", mend)]


def check_checkout(root: Path = ROOT) -> list:
    """Whether the checkout's ``.venv`` is there, finished, and of the checkout as it is now."""
    if not (root / "setup.cfg").exists():
        return [(OK, "installed as a package (no checkout around it)", "")]
    setup = Setup(root)
    if setup.is_done():
        return [(OK, f"set-up of {root} is complete", "")]
    if not setup.python.exists():
        return [(WRONG, f"{root} is not set up: there is no .venv", "make setup")]
    why = "is of an older state of this checkout" if setup.state else "was not finished"
    return [(WARN, f"the set-up of {root} {why}", "make setup")]


def read_pins(text: str, version: tuple = sys.version_info[:2]) -> dict:
    """Package to version from the text of constraints.txt, lines for other Pythons left out."""
    pins = {}
    for name, pin, sign, major, minor in re.findall(
        r'(?m)^([\w.-]+)==([^\s;]+)(?:; *python_version *(<|>=) *"(\d+)\.(\d+)")?', text
    ):
        if not sign or (version < (int(major), int(minor))) == (sign == "<"):
            pins[name] = pin
    return pins


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def installed_version(name: str) -> str:
    """Version of an installed distribution, '' if there is none."""
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def read_requirements(text: str) -> set:
    """Packages that the text of setup.cfg asks for, those that only some want left out."""
    return set(re.findall(r"(?m)^    ([A-Za-z][\w.-]*)>=", text)) - set(OPTIONAL)


def check_packages(pins: dict, required: set, version_of=installed_version) -> list:
    """Compares what is installed with the tested versions; a local part (+cpu) does not count as a difference."""
    found = {name: version_of(name) for name in set(pins) | required | set(SHOWN)}
    shown = ", ".join(f"{name} {found[name]}" for name in SHOWN if found[name])
    lines = [(OK, f"{sum(map(bool, found.values()))} packages, among them {shown}", "")]
    missing = sorted((name for name in required if not found[name]), key=str.lower)
    if missing:
        lines.append((WRONG, f"not installed: {', '.join(missing)}", AGAIN))
    for name in sorted(pins, key=str.lower):
        if found[name] and found[name].split("+")[0] != pins[name]:
            lines.append((WARN, f"{name} is {found[name]}; tested with {pins[name]}", AGAIN))
    return lines


def check_dreamer(info: dict) -> list:
    if "error" in info:
        mend = f"{sys.executable} -m dreamerv3_patches.build"
        return [(WRONG, "the official DreamerV3: " + info["error"], mend)]
    return [(OK, "official DreamerV3 (dreamer {}), with our repairs".format(info["version"]), "")]


def check_rendering(info: dict, packages: str) -> list:
    """``packages``: the command that brings a software OpenGL."""
    if info.get("error"):
        return [(WRONG, "rendering: " + info["error"], packages)]
    where = "on the CPU, so without shadows (--env.metaworld.quality auto)" if info["software"] else "on the GPU"
    return [(OK, "rendering: {}, {}, {}".format(info["backend"], info["renderer"], where), "")]


def check_devices(jax: dict, torch: dict, smi: str) -> list:
    """JAX and torch beside what ``nvidia-smi`` shows: a GPU that is there should be used."""
    lines, extra = [], machine.jax_extra(smi)
    if machine.driver_of(smi):
        lines.append(
            (OK if extra else WARN, "NVIDIA: " + machine.gpu_sentence(smi), "" if extra else "update the driver")
        )
    if "error" in jax:
        lines.append((WRONG, "JAX: " + jax["error"], AGAIN))
    elif extra and jax["platform"] == "cpu":
        lines.append((WRONG, "JAX runs on the CPU although there is an NVIDIA GPU", AGAIN))
    else:
        lines.append((OK, f"JAX trains on {jax['platform']}: {jax['count']} x {jax['kind']}", ""))
    if "error" in torch:
        lines.append((WRONG, "torch and the model libraries: " + torch["error"], AGAIN))
    elif extra and not torch["cuda"]:
        mend = "make setup TORCH_INDEX=... with a torch for this driver (README.md), or leave it"
        lines.append(
            (WARN, "torch {} does not see the GPU: rewards are computed on the CPU".format(torch["version"]), mend)
        )
    else:
        lines.append((OK, "torch {} computes rewards on {}".format(torch["version"], torch["cuda"] or "the CPU"), ""))
    return lines


def check_models(name: str, info: dict) -> list:
    if "error" in info:
        mend = "name a folder or a hub id: make doctor MODEL=..." if name != "embedded" else AGAIN
        return [(WRONG, "models ({}): {}".format(name, info["error"]), mend)]
    random = "" if info["trained"] else "; random weights: they show that the line works, no more"
    text = f"models: {info['name']}, frames of {info['frame_size']} pixels{random}"
    return [(OK, text, "")] + [(OK, "  {}: {}".format(*pair), "") for pair in sorted(info["folders"].items())]


def check_room(memory: float, disk: float, shared: float, cores: int) -> list:
    """``memory``, ``disk`` and ``shared`` (/dev/shm) in GB: all of the first, what is free of the others."""
    lines = [(OK, f"{cores} cores, {memory:.0f} GB memory, {disk:.0f} GB disk free here", "")]
    if memory < 20:
        text = f"{memory:.1f} GB memory: the paper preset's replay alone takes 18.5; the cpu preset needs little"
        lines = [(WARN, text, "make train PRESET=cpu, or FLAGS='--replay.size 1e5'")]
    if disk < 5:
        lines.append(
            (WARN, f"{disk:.1f} GB disk free here; a run's replay wants room", "make train LOGDIR=/other/disk")
        )
    if shared < 0.25:
        mend = "in Docker: --shm-size=1g; elsewhere: mount -o remount,size=1g /dev/shm"
        lines.append((WRONG, f"{1000 * shared:.0f} MB shared memory free; frames go through it", mend))
    return lines


def room() -> list:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    shared = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 1e12
    return check_room(memory / 1e9, shutil.disk_usage(os.getcwd()).free / 1e9, shared / 1e9, os.cpu_count() or 1)


def show(lines: list) -> None:
    for state, text, mend in lines:
        print(f"{state:<6} {text}" + ("\n       -> " + mend if mend else ""), flush=True)


def run(argv: list) -> int:
    """Looks at everything and prints a line each. ``--model.family NAME`` looks at other models.

    Returns:
        1 if something that training needs is wrong, else 0.
    """
    family = argv[argv.index("--model.family") + 1] if "--model.family" in argv[:-1] else "embedded"
    all_lines = []

    def tell(lines: list) -> None:
        show(lines)
        all_lines.extend(lines)

    tell(check_python())
    tell(check_checkout())
    lacking = machine.missing_packages(sys.executable, can_venv=lambda python: True)
    packages = "apt-get install -y " + " ".join(machine.names_of(lacking or [machine.GL_PACKAGES]))
    if lacking:
        tell([(WRONG, "no OpenGL that draws without a screen", packages)])
    tell(room())
    if sys.version_info[:2] not in SUPPORTED or not installed_version("numpy"):
        tell([(WRONG, "packages, rendering, devices and models: nothing is installed yet", "make setup")])
    else:
        pins, required = (text_of(ROOT / name) for name in ("constraints.txt", "setup.cfg"))
        tell(check_packages(read_pins(pins), read_requirements(required)))
        tell(check_dreamer(ask(DREAMER_PROBE)))
        if not lacking:
            tell(check_rendering(ask(RENDER_PROBE), packages))
        tell(check_devices(ask(JAX_PROBE), ask(TORCH_PROBE), machine.nvidia_smi()))
        tell(check_models(family, ask(MODEL_PROBE, family)))
    wrong = sum(state == WRONG for state, _, _ in all_lines)
    print(f"Wrong: {wrong}. What mends it stands after each." if wrong else "Ready to train.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
