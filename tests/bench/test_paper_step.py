"""The train step at the paper's sizes: what its item is called, and how two variants' losses are compared."""

import jax
import numpy as np
import pytest

from genreward_jax.bench import paper_step
from genreward_jax.bench.scale import TINY
from genreward_jax.bench.train_step import PLAIN, Stepper, configuration


def test_a_difference_is_relative_to_small_losses_too():
    assert paper_step._difference({"a": 1e-3, "b": 100.0}, {"a": 2e-3, "b": 100.0}) == pytest.approx(0.5)
    assert paper_step._difference({"a": 0.0}, {"a": 0.0}) == 0.0


@pytest.mark.parametrize("preset, sizes", [("paper", "batch 16x64, 512 det"), ("smoke", "batch 4x16, 64 det")])
def test_the_title_says_the_sizes_that_were_measured(preset, sizes):
    assert sizes in paper_step._title(configuration(preset, "none", []))


def test_an_agent_learns_the_same_with_and_without_the_speed_ups():
    """A whole agent over steps that move it far: a slope in a wrong direction shows (a factor the optimizer hides)."""
    flags = [*TINY, *paper_step.MOVING, "--agent.opt.lr", "1e-3", "--agent.*outscale", "1.0"]
    losses, moved = [], []
    for switches in (PLAIN, {}):
        stepper = Stepper(configuration("smoke", "none", flags, **switches))
        before, found = jax.device_get(stepper.agent.params), []
        for _ in range(6):
            stepper.train()
            found.append(stepper.losses())
        after = jax.device_get(stepper.agent.params)
        losses.append(found)
        moved.append(max(float(np.abs(after[key] - before[key]).max()) for key in after if key.startswith("enc/")))
    assert min(moved) > 3e-3
    assert max(paper_step._difference(*pair) for pair in zip(*losses, strict=True)) < 1e-4
    assert paper_step._difference(losses[0][1], losses[0][5]) > 1e-2, "and the losses themselves have changed"
