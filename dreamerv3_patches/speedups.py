"""Transposed convolutions without the zeros: the same numbers in less time, switched off by ``patches.fast_convs``.

Upstream's strided transposed convolution fills three quarters of an image with zeros and convolves it at full
resolution; on a CPU that is most of a train step (docs/performance.md). Parameters keep their names and shapes, so
checkpoints go either way. Can go: when upstream, or XLA for it, leaves the zeros out.
"""

import functools
from typing import Any

import embodied.jax.nets as nets
import jax
import jax.numpy as jnp
import ninjax as nj
import numpy as np

_upstream = nets.Conv2D.__call__
FEW_CHANNELS = 16  # up to here XLA's own convolution beats matrix products (docs/performance.md)


def set_fast_convs(enabled: bool) -> None:
    """Whether transposed convolutions are compiled without the zeros from now on."""
    nets.Conv2D.__call__ = _fast if enabled else _upstream


def covers(module: Any) -> bool:
    """Whether a convolution is of the kind that is rewritten: transposed, stride 2, square kernel, same padding."""
    square = module.kernel[0] == module.kernel[1] >= 2
    return module.transp and module.stride == 2 and module.groups == 1 and module.pad == "same" and square


def _call(self: Any, x: jax.Array) -> jax.Array:
    """What Conv2D computes on x (N, H, W, C), without the zeros where :func:`covers` says so."""
    if not covers(self):
        return _upstream(self, x)
    nets.ensure_dtypes(x)
    shape = (*self.kernel, x.shape[-1], self.depth)
    kernel = self.value("kernel", self._scaled_winit, shape).astype(x.dtype)
    x = conv_up(x, kernel)
    if self.bias:
        x += self.value("bias", nets.init(self.binit), self.depth).astype(x.dtype)
    return x


@functools.wraps(_upstream)
def _fast(self: Any, x: jax.Array) -> jax.Array:
    """Enters the module's scope by hand: ninjax does that for the methods a class is made with, not for later ones."""
    with nj.scope(self.path, absolute=True):
        return _call(self, x)


def conv_up(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Upstream's transposed convolution with stride 2: x at the odd places of a zero image, convolved with ``kernel``.

    Args:
        x: (N, H, W, C).
        kernel: (k, k, C, D).

    Returns:
        (N, 2H, 2W, D).
    """
    return _up_convolved(x, kernel) if kernel.shape[2] <= FEW_CHANNELS else _up_shifted(x, kernel)


def taps(size: int) -> list[list[tuple[int, int]]]:
    """For output rows 2j (first list) and 2j + 1: which input row j + shift meets which kernel row: (shift, row)."""
    before = (size - 1) // 2
    meets = lambda parity: [(shift, 2 * shift + 1 + before - parity) for shift in range(-size, size)]
    return [[(shift, row) for shift, row in meets(parity) if 0 <= row < size] for parity in (0, 1)]


def _reach(parities: list[list[tuple[int, int]]]) -> tuple[int, int]:
    """How many neighbours before and after an input row its output rows look at."""
    shifts = [shift for parity in parities for shift, _ in parity]
    return -min(shifts), max(shifts)


def _up_convolved(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """One convolution without a stride to the four output pixels of each input pixel, then depth-to-space."""
    size, _, channels, depth = kernel.shape
    count, height, width, _ = x.shape
    parities = taps(size)
    before, after = _reach(parities)
    side = before + after + 1
    place, parity, row = np.array([(before + s, p, r) for p in (0, 1) for s, r in parities[p]]).T
    wide = jnp.zeros((side, side, channels, 2, 2, depth), kernel.dtype)
    at = (place[:, None], place[None], slice(None), parity[:, None], parity[None])
    wide = wide.at[at].set(kernel[row[:, None], row[None]]).reshape(side, side, channels, 4 * depth)
    dims = ("NHWC", "HWIO", "NHWC")
    x = jax.lax.conv_general_dilated(x, wide, (1, 1), [(before, after)] * 2, dimension_numbers=dims)  # (N, H, W, 4D)
    x = x.reshape(count, height, width, 2, 2, depth).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(count, 2 * height, 2 * width, depth)


@jax.custom_vjp
def _up_shifted(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """One product with every kernel place, then each output pixel sums the few that reach it."""
    size, _, channels, depth = kernel.shape
    count, height, width, _ = x.shape
    parities = taps(size)
    before, after = _reach(parities)
    x = x @ _matrix(kernel)  # (N, H, W, k * k * D)
    x = jnp.pad(x, [(0, 0), (before, after), (before, after), (0, 0)])

    def part(down: int, row: int, right: int, col: int) -> jax.Array:
        top, left, start = before + down, before + right, (row * size + col) * depth
        return x[:, top : top + height, left : left + width, start : start + depth]

    def pixel(p: int, q: int) -> jax.Array:
        return sum(part(*rows, *cols) for rows in parities[p] for cols in parities[q])

    x = jnp.stack([jnp.stack([pixel(p, q) for q in (0, 1)], 3) for p in (0, 1)], 2)  # (N, H, 2, W, 2, D)
    return x.reshape(count, 2 * height, 2 * width, depth)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _up_shifted(x, kernel), (x, kernel)


def _backward(kept: tuple[jax.Array, jax.Array], slope: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each kernel place meets one shifted quarter of the output, so its slope is a slice: two products of all of them.

    Left to JAX, each of the slices becomes an array as large as all of them, mostly zeros: 17 times slower.
    """
    x, kernel = kept
    size, _, channels, depth = kernel.shape
    count, height, width, _ = x.shape
    slope = slope.reshape(count, height, 2, width, 2, depth)
    parities, places = taps(size), {}
    before, after = _reach(parities)
    for p in (0, 1):
        for q in (0, 1):
            quarter = jnp.pad(slope[:, :, p, :, q], [(0, 0), (after, before), (after, before), (0, 0)])
            for down, row in parities[p]:
                for right, col in parities[q]:
                    top, left = after - down, after - right
                    places[row, col] = quarter[:, top : top + height, left : left + width]
    slopes = jnp.concatenate([places[row, col] for row in range(size) for col in range(size)], -1)
    of_kernel = x.reshape(-1, channels).T @ slopes.reshape(-1, slopes.shape[-1])
    of_kernel = of_kernel.reshape(channels, size, size, depth).transpose(1, 2, 0, 3)
    return slopes @ _matrix(kernel).T, of_kernel.astype(kernel.dtype)


_up_shifted.defvjp(_forward, _backward)


def _matrix(kernel: jax.Array) -> jax.Array:
    """(k, k, C, D) to (C, k * k * D)."""
    return kernel.transpose(2, 0, 1, 3).reshape(kernel.shape[2], -1)
