"""Convolutions that halve or double an image, without the zeros: the same numbers in less time.

Upstream's strided transposed convolution fills three quarters of an image with zeros and convolves it at full
resolution, and so does XLA for the slope of a strided convolution by its input; on a CPU that was most of a train step
(docs/performance.md). ``patches.fast_convs`` switches this off. Parameters keep their names and shapes, so checkpoints
go either way. Can go: when upstream, or XLA for it, leaves the zeros out.

All of it is one pair of operations, each the other's slope by its image: :func:`conv_down` halves an image by a
strided convolution, and ``_spread`` is what carries a slope back through it. A transposed convolution is ``_spread``
with its kernel turned around.
"""

import functools
from typing import Any

import embodied.jax.nets as nets
import jax
import jax.numpy as jnp
import ninjax as nj
import numpy as np

_upstream = nets.Conv2D.__call__
COLOURS = 4  # up to here an image's channels are too few for XLA's strided convolution to fill a vector with
FEW_CHANNELS = 16  # up to here one larger convolution with zeros in its kernel beats four without (docs/performance.md)
IMAGES = 32  # of a batch, whose part of a kernel's slope is computed at once on a CPU
LAYOUT = ("NHWC", "HWIO", "NHWC")


def set_fast_convs(enabled: bool) -> None:
    """Whether convolutions of stride 2 are compiled without the zeros from now on."""
    nets.Conv2D.__call__ = _fast if enabled else _upstream


def covers(module: Any, x: jax.Array) -> bool:
    """Whether a convolution of x (N, H, W, C) is rewritten: stride 2, square kernel, same padding; even H and W."""
    square = module.kernel[0] == module.kernel[1] >= 2
    even = module.transp or x.shape[1] % 2 == x.shape[2] % 2 == 0
    return module.stride == 2 and module.groups == 1 and module.pad == "same" and square and even


def _call(self: Any, x: jax.Array) -> jax.Array:
    """What Conv2D computes on x (N, H, W, C), without the zeros where :func:`covers` says so."""
    if not covers(self, x):
        return _upstream(self, x)
    nets.ensure_dtypes(x)
    shape = (*self.kernel, x.shape[-1], self.depth)
    kernel = self.value("kernel", self._scaled_winit, shape).astype(x.dtype)
    x = conv_up(x, kernel) if self.transp else conv_down(x, kernel)
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
    return _spread(x, kernel[::-1, ::-1].transpose(0, 1, 3, 2))


@jax.custom_vjp
def conv_down(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution with stride 2 and same padding.

    Args:
        x: (N, 2H, 2W, D).
        kernel: (k, k, D, C).

    Returns:
        (N, H, W, C).
    """
    return _folded(x, kernel) if x.shape[-1] <= COLOURS else _strided(x, kernel)


@jax.custom_vjp
def _spread(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The slope of :func:`conv_down` by its image, for x (N, H, W, C) and a kernel (k, k, D, C): (N, 2H, 2W, D)."""
    return _spread_at_once(x, kernel) if min(kernel.shape[2:]) <= FEW_CHANNELS else _spread_in_four(x, kernel)


def _slope_of_kernel(large: jax.Array, small: jax.Array, kernel: jax.Array) -> jax.Array:
    """Slope of both operations by their kernel: the sum over parts of the batch.

    XLA makes it one convolution whose channels are the batch's images; on a CPU that takes up to four times as long for
    a thousand images at once as for as many in parts. Written out, since in a loop XLA computes it on one thread.
    """
    part = IMAGES if jax.default_backend() == "cpu" else len(large)
    slope = lambda large, small: jax.vjp(lambda kernel: _strided(large, kernel), kernel)[1](small)[0]
    return sum(slope(large[at : at + part], small[at : at + part]) for at in range(0, len(large), part))


def _kept(operation: Any) -> Any:
    return lambda x, kernel: (operation(x, kernel), (x, kernel))


conv_down.defvjp(
    _kept(conv_down), lambda kept, slope: (_spread(slope, kept[1]), _slope_of_kernel(kept[0], slope, kept[1]))
)
_spread.defvjp(
    _kept(_spread), lambda kept, slope: (conv_down(slope, kept[1]), _slope_of_kernel(slope, kept[0], kept[1]))
)


def padding(size: int) -> tuple[int, int]:
    """Rows of zeros before and after an image of even height that same padding gives a kernel of that size."""
    return (size - 2) // 2, size - 2 - (size - 2) // 2


def _strided(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """XLA's own."""
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), [padding(kernel.shape[0])] * 2, dimension_numbers=LAYOUT)


def _folded(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Each 2x2 square of pixels becomes one pixel of four times the channels, which needs no stride."""
    size, _, depth, channels = kernel.shape
    (before, after), odd = padding(size), size % 2
    kernel = jnp.pad(kernel, [(0, odd), (0, odd), (0, 0), (0, 0)])
    x = jnp.pad(x, [(0, 0), (before, after + odd), (before, after + odd), (0, 0)])
    count, height, width, _ = x.shape
    x = x.reshape(count, height // 2, 2, width // 2, 2, depth).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(count, height // 2, width // 2, 4 * depth)
    side = (size + odd) // 2
    kernel = kernel.reshape(side, 2, side, 2, depth, channels).transpose(0, 2, 1, 3, 4, 5)
    kernel = kernel.reshape(side, side, 4 * depth, channels)
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=LAYOUT)


def taps(size: int) -> list[list[tuple[int, int]]]:
    """For large rows 2j (first list) and 2j + 1: which small row j + shift meets which kernel row: (shift, row)."""
    before, _ = padding(size)
    meets = lambda parity: [(-((row - before) // 2), row) for row in range(size) if (row - before) % 2 == parity]
    return [sorted(meets(parity)) for parity in (0, 1)]


def _spread_in_four(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The four pixels of each 2x2 square by a convolution each, with those places of the kernel that reach it."""
    count, height, width, _ = x.shape
    depth, parities = kernel.shape[2], taps(kernel.shape[0])
    kernel = kernel.transpose(0, 1, 3, 2)

    def pixel(p: int, q: int) -> jax.Array:
        rows, columns = parities[p], parities[q]
        part = kernel[np.array([row for _, row in rows])][:, np.array([column for _, column in columns])]
        around = [(-shifts[0][0], shifts[-1][0]) for shifts in (rows, columns)]
        return jax.lax.conv_general_dilated(x, part, (1, 1), around, dimension_numbers=LAYOUT)

    x = jnp.stack([jnp.stack([pixel(p, q) for q in (0, 1)], 3) for p in (0, 1)], 2)  # (N, H, 2, W, 2, D)
    return x.reshape(count, 2 * height, 2 * width, depth)


def _spread_at_once(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The four pixels of each 2x2 square by one convolution, whose kernel has zeros where a place does not reach."""
    size, _, depth, channels = kernel.shape
    count, height, width, _ = x.shape
    place, parity, row = np.array([(s, p, r) for p, pairs in enumerate(taps(size)) for s, r in pairs]).T
    before, after = -place.min(), place.max()
    side, place = before + after + 1, place + before
    wide = jnp.zeros((side, side, channels, 2, 2, depth), kernel.dtype)
    at = (place[:, None], place[None], slice(None), parity[:, None], parity[None])
    wide = wide.at[at].set(kernel.transpose(0, 1, 3, 2)[row[:, None], row[None]])
    wide = wide.reshape(side, side, channels, 4 * depth)
    x = jax.lax.conv_general_dilated(x, wide, (1, 1), [(before, after)] * 2, dimension_numbers=LAYOUT)
    x = x.reshape(count, height, width, 2, 2, depth).transpose(0, 1, 3, 2, 4, 5)  # (N, H, 2, W, 2, D)
    return x.reshape(count, 2 * height, 2 * width, depth)
