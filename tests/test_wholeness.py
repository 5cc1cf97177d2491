"""Rules of the house that a reader relies on: where torch and upstream's internals may be imported, no pickle."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("genreward_jax", "dreamerv3_patches", "torch_bridge")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def top(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_keep_to_their_rooms(path):
    names, room = imports(path), path.relative_to(ROOT).parts[0]
    if room != "torch_bridge":
        assert not top(names) & {"torch", "diffusers", "transformers", "open_clip"}
    if room == "genreward_jax":
        assert "dreamerv3" not in top(names)
        assert not [name for name in names if name.startswith(("embodied.jax", "embodied.core", "embodied.run"))]
        torchless = ("client", "dlpack", "families", "generation", "guests", "hub")
        assert not [n for n in names if n.startswith("torch_bridge.") and n.split(".")[1] not in torchless]
    if room == "genreward_jax" and path.parent.name == "rewards":
        assert not top(names) & {"jax", "embodied", "dreamerv3_patches", "torch_bridge"}
    if path.parent.name != "cli" and path.name != "__main__.py":
        assert not [name for name in names if name.startswith("genreward_jax.cli")]
    if path.name == "__init__.py":
        source = ast.parse(path.read_text())
        heavy = [node for node in source.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert not heavy


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled_from_a_file(path):
    """pickle passes between a process and its own children only."""
    allowed = {f"dreamerv3_patches/{name}.py" for name in ("env_server", "parallel", "parallel_env", "repairs")}
    allowed |= {"torch_bridge/shared.py"}
    if str(path.relative_to(ROOT)) not in allowed:
        assert not top(imports(path)) & {"pickle", "cloudpickle", "dill", "joblib"}
