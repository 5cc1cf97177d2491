"""The train step at the paper's sizes: what its item is called, and how two variants' losses are compared."""

import pytest

from genreward_jax.bench import paper_step
from genreward_jax.bench.train_step import configuration


def test_a_difference_is_relative_to_small_losses_too():
    assert paper_step._difference({"a": 1e-3, "b": 100.0}, {"a": 2e-3, "b": 100.0}) == pytest.approx(0.5)
    assert paper_step._difference({"a": 0.0}, {"a": 0.0}) == 0.0


@pytest.mark.parametrize("preset, sizes", [("paper", "batch 16x64, 512 det"), ("smoke", "batch 4x16, 64 det")])
def test_the_title_says_the_sizes_that_were_measured(preset, sizes):
    assert sizes in paper_step._title(configuration(preset, "none", []))
