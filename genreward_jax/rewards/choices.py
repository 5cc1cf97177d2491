"""Settings that name one of a few things."""

from collections.abc import Mapping

from genreward_jax.errors import UserError


def one_of(flag: str, value: str, means: Mapping[str, str]) -> str:
    """What a value of ``--reward.<flag>`` means to this reward.

    Raises:
        UserError: It means nothing to it.
    """
    if value not in means:
        raise UserError(f"--reward.{flag} is {value!r}; it can be {', '.join(means)}.")
    return means[value]
