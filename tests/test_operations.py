"""Operations and bytes of a JAX program, counted by hand and by the counter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genreward_jax import operations

SQUARE = jax.ShapeDtypeStruct((8, 8), jnp.float32)
PRODUCT = 2 * 8**3


def count(function, *arguments):
    return operations.cost(jax.jit(function), *arguments)[0]


@pytest.mark.parametrize("length", [1, 16])
def test_a_loop_counts_as_often_as_it_runs_forward_and_in_its_gradient(length):
    def loop(x, w):
        return jax.lax.scan(lambda carry, _: (jnp.tanh(carry @ w), None), x, None, length=length)[0]

    assert count(loop, SQUARE, SQUARE) == length * PRODUCT
    gradient = jax.grad(lambda x, w: loop(x, w).sum(), argnums=(0, 1))
    assert count(gradient, SQUARE, SQUARE) == 3 * length * PRODUCT


def test_a_product_and_its_gradients():
    a, b = jax.ShapeDtypeStruct((5, 3, 7), jnp.float32), jax.ShapeDtypeStruct((5, 7, 11), jnp.float32)
    product = lambda a, b: jnp.einsum("bij,bjk->bik", a, b)
    assert count(product, a, b) == 2 * 5 * 3 * 7 * 11
    # The product itself is not needed for the gradients of its sum.
    assert count(jax.grad(lambda a, b: product(a, b).sum(), argnums=(0, 1)), a, b) == 2 * 2 * 5 * 3 * 7 * 11


@pytest.mark.parametrize("stride, padding, taps", [(1, "VALID", 4 * 3), (2, "VALID", 2 * 3), (2, "SAME", 3 * 3 - 1)])
def test_a_convolution_and_its_gradients_count_no_zeros(stride, padding, taps):
    """``taps``: pairs of a place of the result and a kernel's value along each axis of six that meet a value."""
    image, kernel = jax.ShapeDtypeStruct((2, 6, 6, 5), jnp.float32), jax.ShapeDtypeStruct((3, 3, 5, 7), jnp.float32)
    convolve = lambda x, w: jax.lax.conv_general_dilated(
        x, w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    once = 2 * 2 * 5 * 7 * taps**2
    assert count(convolve, image, kernel) == once
    for argument in (0, 1):
        assert count(jax.grad(lambda x, w: convolve(x, w).sum(), argnums=argument), image, kernel) == once


def test_functions_inside_others_are_counted():
    @jax.custom_vjp
    def own(x):
        return x @ x

    own.defvjp(lambda x: (x @ x, x), lambda x, g: (g @ x,))
    inside = [jax.jit(jnp.matmul), jax.checkpoint(jnp.matmul), lambda x, y: own(x)]
    for function in inside:
        assert count(function, SQUARE, SQUARE) == PRODUCT
    assert count(jax.grad(lambda x: own(x).sum()), SQUARE) == PRODUCT
    chosen = lambda x: jax.lax.cond(x.sum() > 0, lambda: x @ x @ x, lambda: x @ x)
    assert count(chosen, SQUARE) == 2 * PRODUCT
    rounds = lambda x: jax.lax.while_loop(lambda y: y.sum() > 0, lambda y: y @ x, x)
    assert count(rounds, SQUARE) == PRODUCT  # nobody knows how many


def test_bytes_are_of_what_is_read_and_written_each_once():
    def program(read, unread, passed):
        return {"again": read * read + read, "passed": passed, "few": jnp.ones(3, jnp.int8)}

    arguments = [jax.ShapeDtypeStruct((100,), jnp.bfloat16) for _ in range(3)]
    assert operations.cost(jax.jit(program), *arguments)[1] == 2 * 100 * 2 + 3


def test_all_devices_of_a_program_that_is_split_by_hand_are_counted():
    mesh = jax.sharding.AbstractMesh((4,), ("d",))
    spec = jax.sharding.PartitionSpec("d")
    split = jax.shard_map(lambda x: x @ x.T, mesh=mesh, in_specs=spec, out_specs=spec)
    x = jax.ShapeDtypeStruct((8, 6), jnp.float32)
    assert operations.flops(jax.make_jaxpr(split)(x).jaxpr) == 4 * (2 * 2 * 2 * 6)


def test_the_counter_agrees_with_xla_where_there_is_no_loop():
    image, kernel = np.zeros((2, 9, 9, 3), np.float32), np.zeros((4, 4, 3, 8), np.float32)
    convolve = lambda x, w: jax.lax.conv_transpose(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    analysis = jax.jit(convolve).lower(image, kernel).compile().cost_analysis()
    assert count(convolve, image, kernel) == pytest.approx(analysis["flops"], rel=0.01)
