"""Parameters made without a backward pass: those that upstream makes with one, to the bit."""

import embodied.jax.opt
import jax
import ninjax as nj
import numpy as np
import pytest

from dreamerv3_patches import initialising
from dreamerv3_patches.agent import make_agent
from tests.patches.tiny_agent import ACT, OBS, fb_section, settings


def parameters(objective, config=None):
    fb = fb_section(objective=objective, dino_every=1) if objective else None
    agent = make_agent(OBS, ACT, config or settings(), fb=fb, reward_interval=3)
    return jax.device_get(agent.params), agent.train_params_sharding


@pytest.mark.parametrize("objective", ["", "paper", "measure"])
def test_parameters_are_upstreams_to_the_bit(objective, monkeypatch):
    ours, spread = parameters(objective)
    asked = []
    monkeypatch.setattr(embodied.jax.opt.nj, "grad", lambda *a, **kw: asked.append(1) or nj.grad(*a, **kw))
    theirs, theirs_spread = parameters(objective)
    assert asked
    assert list(ours) == list(theirs) and spread == theirs_spread
    for key, value in ours.items():
        np.testing.assert_array_equal(value, theirs[key], err_msg=key)
        assert value.dtype == theirs[key].dtype


def test_a_program_that_is_not_polished_draws_the_same(monkeypatch):
    """With XLA's optimizations, which the agents of other tests go without."""
    config = settings().update({"jax.debug": False})
    ours, _ = parameters("", config)
    monkeypatch.setattr(initialising, "ONCE", {})
    jax.clear_caches()
    theirs, _ = parameters("", config)
    for key, value in ours.items():
        np.testing.assert_array_equal(value, theirs[key], err_msg=key)


def test_nothing_is_differentiated_for_them(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a backward pass")

    monkeypatch.setattr(jax, "value_and_grad", refuse)
    parameters("")


def test_a_loss_without_more_and_a_real_gradient():
    class Square(nj.Module):
        def __call__(self, x):
            return (self.value("w", lambda: np.float32(3.0)) * x) ** 2

    square = Square(name="square")
    take = nj.pure(lambda x: initialising.grad(lambda x: square(x), [square])(x))
    state, (loss, params, zeros) = take({}, 2.0, seed=0, create=True)
    assert (float(loss), float(params["square/w"]), float(zeros["square/w"])) == (36.0, 3.0, 0.0)
    _, (loss, _, slope) = take(state, 2.0, seed=0)
    assert (float(loss), float(slope["square/w"])) == (36.0, 24.0)
