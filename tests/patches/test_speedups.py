"""Convolutions of stride 2 without the zeros: upstream's numbers, forward and backward, from upstream's parameters."""

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
    x = rng.normal(size=(3, *size, channels)).astype(np.float32)
    params, layers = {}, []
    for i, (kernel, kwargs) in enumerate(cases):
        kwargs = {"stride": 2, "depth": 6, **kwargs}
        depth, stride = kwargs.pop("depth"), kwargs.pop("stride")
        shape = (kernel, kernel, channels // kwargs.get("groups", 1), depth)
        params[f"conv{i}/kernel"] = rng.normal(size=shape).astype(np.float32)
        params[f"conv{i}/bias"] = rng.normal(size=depth).astype(np.float32)
        layers.append(nets.Conv2D(depth, kernel, stride, **kwargs, name=f"conv{i}"))

    def loss(params, xs):
        outs = nj.pure(lambda: [layer(x) for layer, x in zip(layers, xs, strict=True)])(params, seed=0)[1]
        return sum((out * jnp.cos(jnp.arange(out.size)).reshape(out.shape)).mean() for out in outs), outs

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, [x] * len(layers))


# Kernel sizes and the channels of an image before and after: each way of computing it, halving and doubling.
WAYS = [(kernel, 3, 6) for kernel in (2, 3, 4, 5, 6)] + [(kernel, 24, 20) for kernel in (2, 3, 4, 5)]


@pytest.mark.parametrize("transp", [False, True])
@pytest.mark.parametrize("channels", [3, 24])
@pytest.mark.parametrize("part", [32, 2])
def test_same_numbers(channels, transp, part, monkeypatch):
    monkeypatch.setattr(speedups, "IMAGES", part)  # the batch has three: one part, or two of which the last is shorter
    cases = [(kernel, dict(transp=transp, depth=after)) for kernel, before, after in WAYS if before == channels]
    ours, theirs = run(True, cases, channels), run(False, cases, channels)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=4e-6 * max(1, np.abs(b).max()))
    jax.tree.map(close, ours, theirs)


def test_low_precision_stays_low(monkeypatch):
    monkeypatch.setattr(nets, "COMPUTE_DTYPE", jnp.bfloat16)
    x, kernel = jnp.ones((2, 8, 8, 24), jnp.bfloat16), jnp.ones((4, 4, 24, 20), jnp.bfloat16)
    for way in (speedups.conv_down, speedups.conv_up):
        out, slope = jax.vjp(way, x, kernel)
        assert {leaf.dtype for leaf in (out, *slope(out))} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("way", [speedups.conv_up, speedups.conv_down])
def test_gradients_need_no_more_memory_than_a_few_products(way):
    """Sixteen slices, each with a slope as large as the whole product, once took 23 times its memory."""
    x, kernel = jnp.ones((8, 16, 16, 32)), jnp.ones((4, 4, 32, 24))
    both = jax.jit(lambda x, kernel: jax.vjp(way, x, kernel)[1](way(x, kernel)))
    product = 4 * 8 * 8 * 8 * 16 * 32  # bytes of the kernel's places in each of its windows: (N, H, W, k * k * C)
    assert both.lower(x, kernel).compile().memory_analysis().temp_size_in_bytes < 6 * product


WHICH = {
    "_folded": (speedups.conv_down, 3, 24),
    "_strided": (speedups.conv_down, 24, 24),
    "_spread_at_once": (speedups.conv_up, 24, 3),
    "_spread_in_four": (speedups.conv_up, 24, 24),
}


@pytest.mark.parametrize("name", WHICH)
def test_each_way_is_exercised(monkeypatch, name):
    called = []
    for other in WHICH:
        real = getattr(speedups, other)
        monkeypatch.setattr(speedups, other, lambda *a, real=real, other=other: called.append(other) or real(*a))
    way, before, after = WHICH[name]
    way(jnp.ones((1, 4, 4, before)), jnp.ones((4, 4, before, after)))
    assert called == [name]


def test_other_convolutions_stay_upstreams(monkeypatch):
    for way in ("conv_up", "conv_down"):
        monkeypatch.setattr(speedups, way, None)  # would raise
    cases = [(4, dict(stride=1)), (4, dict(stride=3)), (4, dict(groups=2)), (4, dict(pad="valid")), (1, dict())]
    jax.tree.map(np.testing.assert_array_equal, run(True, cases, 4), run(False, cases, 4))
    odd = [(4, dict())]
    jax.tree.map(np.testing.assert_array_equal, run(True, odd, 4, (7, 8)), run(False, odd, 4, (7, 8)))


def test_the_switch_switches(monkeypatch):
    called = []
    for way in ("conv_up", "conv_down"):
        real = getattr(speedups, way)
        monkeypatch.setattr(speedups, way, lambda *a, real=real, way=way: called.append(way) or real(*a))
    both = [(4, dict(transp=True)), (4, dict())]
    run(False, both, 3)
    assert not called
    run(True, both, 3)
    assert set(called) == {"conv_up", "conv_down"}
    apply(fast_convs=False)
    assert nets.Conv2D.__call__ is speedups._upstream
    apply()
    assert nets.Conv2D.__call__ is speedups._upstream
