"""Transposed convolutions without the zeros: upstream's numbers, forward and backward, from upstream's parameters."""

import jax
import jax.numpy as jnp
import ninjax as nj
import numpy as np
import pytest

from dreamerv3_patches.apply import apply

apply()

import embodied.jax.nets as nets  # noqa: E402

from dreamerv3_patches import speedups  # noqa: E402


@pytest.fixture(autouse=True)
def single_precision(monkeypatch):
    monkeypatch.setattr(nets, "COMPUTE_DTYPE", jnp.float32)
    yield
    speedups.set_fast_convs(False)


def run(fast, cases, channels, size=(6, 8)):
    """For each (kernel, settings): output and gradients by parameters and by input, all compiled at once."""
    speedups.set_fast_convs(fast)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *size, channels)).astype(np.float32)
    params, layers = {}, []
    for i, (kernel, kwargs) in enumerate(cases):
        shape = (kernel, kernel, channels // kwargs.get("groups", 1), 6)
        params[f"conv{i}/kernel"] = rng.normal(size=shape).astype(np.float32)
        params[f"conv{i}/bias"] = rng.normal(size=6).astype(np.float32)
        kwargs = {"stride": 2, **kwargs}
        layers.append(nets.Conv2D(6, kernel, kwargs.pop("stride"), **kwargs, name=f"conv{i}"))

    def loss(params, xs):
        outs = nj.pure(lambda: [layer(x) for layer, x in zip(layers, xs, strict=True)])(params, seed=0)[1]
        return sum((out * jnp.cos(jnp.arange(out.size)).reshape(out.shape)).mean() for out in outs), outs

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, [x] * len(layers))


@pytest.mark.parametrize("channels", [3, 40])
def test_same_numbers(channels):
    """All kernels; 40 channels take the other way of computing it."""
    cases = [(kernel, dict(transp=True)) for kernel in (2, 3, 4, 5, 6)]
    ours, theirs = run(True, cases, channels), run(False, cases, channels)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=4e-6 * max(1, np.abs(b).max()))
    jax.tree.map(close, ours, theirs)


def test_gradients_need_no_more_memory_than_a_few_products():
    """Sixteen slices, each with a slope as large as the whole product, once took 23 times its memory."""
    x, kernel, slope = jnp.ones((8, 8, 8, 32)), jnp.ones((4, 4, 32, 16)), jnp.ones((8, 16, 16, 16))
    both = jax.jit(lambda x, kernel, slope: jax.vjp(speedups.conv_up, x, kernel)[1](slope))
    product = 4 * 8 * 8 * 8 * 16 * 16  # bytes of (N, H, W, k * k * D)
    assert both.lower(x, kernel, slope).compile().memory_analysis().temp_size_in_bytes < 6 * product


def test_both_ways_are_exercised(monkeypatch):
    x = jnp.ones((1, 4, 4, 8))
    calls = []
    monkeypatch.setattr(speedups, "_up_convolved", lambda *a: calls.append("convolved"))
    monkeypatch.setattr(speedups, "_up_shifted", lambda *a: calls.append("shifted"))
    speedups.conv_up(x, jnp.ones((4, 4, 8, 7)))
    speedups.conv_up(jnp.ones((1, 4, 4, 40)), jnp.ones((4, 4, 40, 7)))
    assert calls == ["convolved", "shifted"]


def test_other_convolutions_stay_upstreams(monkeypatch):
    monkeypatch.setattr(speedups, "conv_up", None)  # would raise
    cases = [(4, dict()), (4, dict(stride=1)), (4, dict(groups=2)), (4, dict(pad="valid")), (1, dict())]
    jax.tree.map(np.testing.assert_array_equal, run(True, cases, 4), run(False, cases, 4))


def test_the_switch_switches(monkeypatch):
    called = []
    real = speedups.conv_up
    monkeypatch.setattr(speedups, "conv_up", lambda *a: called.append(1) or real(*a))
    up = [(4, dict(transp=True))]
    run(False, up, 3)
    assert not called
    run(True, up, 3)
    assert called
    apply(fast_convs=False)
    assert nets.Conv2D.__call__ is speedups._upstream
    apply()
    assert nets.Conv2D.__call__ is speedups._upstream
