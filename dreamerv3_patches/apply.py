"""The one door to the official code: imports it, or says how to get it, and puts our patches on."""

import importlib

from genreward_jax.errors import UserError

_applied = False


def require() -> None:
    """Imports the official code.

    Raises:
        UserError: It is not installed, or what is installed under its names is something else.
    """
    try:
        importlib.import_module("embodied.jax")
        importlib.import_module("dreamerv3.agent")
    except ModuleNotFoundError as error:
        raise UserError(
            f"The official DreamerV3 cannot be imported ({error}): run `make setup`, "
            "or `python -m dreamerv3_patches.build` in an environment that has the other requirements."
        ) from error


def apply(fast_convs: bool | None = None) -> None:
    """Puts the repairs and the shorter start on the official code, once, and switches the speed-ups.

    Args:
        fast_convs: Convolutions of stride 2 without zeros in the image (True) or as upstream writes them (False); None
            leaves them as they are. Takes effect for what is compiled afterwards.

    Raises:
        UserError: The official code is not installed.
    """
    global _applied
    require()
    if not _applied:
        from dreamerv3_patches import initialising, repairs

        repairs.install()
        initialising.install()
        _applied = True
    if fast_convs is not None:
        from dreamerv3_patches import speedups

        speedups.set_fast_convs(fast_convs)
