"""An interpreter that has NumPy and nothing else: what a user's reward may run under beside ours."""

import venv
from pathlib import Path

import numpy as np


def numpy_alone(folder: Path) -> str:
    """Makes a virtual environment in ``folder`` whose only package is this one's NumPy; gives its interpreter."""
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    installed = Path(np.__file__).parent
    for found in (installed, *installed.parent.glob("numpy.libs")):
        (packages / found.name).symlink_to(found)
    return str(folder / "bin" / "python")
