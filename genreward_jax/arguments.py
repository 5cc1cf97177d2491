"""The parser of a verb's own flags: what is wrong becomes one sentence that ends with how to write it."""

import argparse
from typing import Any

from genreward_jax.errors import UserError


class Parser(argparse.ArgumentParser):
    """``argparse``'s, raising :class:`UserError` where that one prints its usage and leaves.

    Args:
        verb: What follows ``python -m genreward_jax``.
        usage: How to write it, for the end of the sentence.
    """

    def __init__(self, verb: str, usage: str, **settings: Any) -> None:
        super().__init__(prog=f"python -m genreward_jax {verb}", allow_abbrev=False, **settings)
        self._verb, self._usage = verb, usage

    def error(self, message: str) -> Any:
        raise UserError(f"{self._verb}: {message}; write {self._verb} {self._usage}.")
