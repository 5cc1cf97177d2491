"""What all tests share."""

import sys

import pytest


@pytest.fixture(autouse=True)
def plain_jax():
    """Upstream's agent forbids implicit transfers for the whole process: the next test starts without that."""
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_transfer_guard", None)
    yield
