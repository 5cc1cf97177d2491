"""A stand-in for a module, seen by one other module only.

Upstream's files reach their libraries through a module-level name (``jax``, ``elements``, ``portal``). Putting a
stand-in behind that name changes what one upstream file calls and leaves the library itself, and so everybody else,
untouched.
"""

from types import ModuleType
from typing import Any


class Proxy(ModuleType):
    """All of ``module``'s attributes, except those given as keywords."""

    def __init__(self, module: ModuleType, **replaced: Any) -> None:
        super().__init__(module.__name__, module.__doc__)
        self.__dict__["_module"] = module
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_module"], name)


def replace_names(user: ModuleType, library: str, **replaced: Any) -> None:
    """Lets ``user`` see ``replaced`` in the library it knows by the name ``library``; calls add up."""
    seen = getattr(user, library)
    if isinstance(seen, Proxy):
        seen.__dict__.update(replaced)
    else:
        setattr(user, library, Proxy(seen, **replaced))
