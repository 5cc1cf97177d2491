"""Least work of a JAX program, counted in its jaxpr: XLA's own analysis counts the body of a loop once."""

import math
from collections.abc import Iterator
from typing import Any

from jax.extend.core import Jaxpr
from jax.interpreters import partial_eval


def cost(program: Any, *arguments: Any) -> tuple[float, float]:
    """Counts a program without compiling it.

    Args:
        program: What ``jax.jit`` gives.
        arguments: Its arguments; ``jax.ShapeDtypeStruct`` will do for arrays.

    Returns:
        Floating point operations of its matrix products and convolutions, see :func:`flops`; and the bytes of its
        arguments and results, each once. On several devices, of all of them together.
    """
    jaxpr = program.trace(*arguments).jaxpr.jaxpr
    needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))  # as XLA leaves out what nobody reads
    return float(flops(needed)), float(moved(needed))


def flops(jaxpr: Jaxpr) -> int:
    """Floating point operations (two for each product that is added) of all matrix products and convolutions.

    A ``scan`` counts its body ``length`` times. A ``while``, whose rounds nobody knows ahead, counts it once; of the
    branches of a ``cond`` the one with most counts. Work element by element is left out.
    """
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def moved(jaxpr: Jaxpr) -> int:
    """Bytes of the arguments that some equation reads and of the results that some equation writes, each once."""
    read = {id(variable) for equation in jaxpr.eqns for variable in equation.invars}
    written = {id(variable) for equation in jaxpr.eqns for variable in equation.outvars}
    variables = [variable for variable in jaxpr.invars if id(variable) in read]
    variables += {id(variable): variable for variable in jaxpr.outvars if id(variable) in written}.values()
    return sum(math.prod(variable.aval.shape) * variable.aval.dtype.itemsize for variable in variables)


def _of_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return _product(equation)
    if name == "conv_general_dilated":
        return _convolution(equation)
    parts = [flops(part) for value in params.values() for part in _jaxprs(value)]
    if name == "cond":
        return max(parts)
    times = {"scan": lambda: params["length"], "shard_map": lambda: params["mesh"].size}.get(name, lambda: 1)
    return times() * sum(parts)


def _jaxprs(value: Any) -> Iterator[Jaxpr]:
    """The jaxprs in one parameter of an equation: itself, closed over constants, or several of them."""
    if isinstance(value, list | tuple):
        for one in value:
            yield from _jaxprs(one)
    elif hasattr(value, "eqns"):
        yield getattr(value, "jaxpr", value)


def _product(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    sizes = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(sizes[axis] for axis in contracted)


def _convolution(equation: Any) -> int:
    """Products of a kernel's value with a value of the image: with none of the zeros around it or put into it."""
    params, (image, kernel) = equation.params, (variable.aval.shape for variable in equation.invars)
    result, numbers = equation.outvars[0].aval.shape, params["dimension_numbers"]
    many = result[numbers.out_spec[0]] * result[numbers.out_spec[1]] * kernel[numbers.rhs_spec[1]]
    for axis, stride in enumerate(params["window_strides"]):
        many *= _meetings(
            image[numbers.lhs_spec[2 + axis]],
            kernel[numbers.rhs_spec[2 + axis]],
            result[numbers.out_spec[2 + axis]],
            stride,
            params["padding"][axis][0],
            params["lhs_dilation"][axis],
            params["rhs_dilation"][axis],
        )
    return 2 * many


def _meetings(image: int, kernel: int, result: int, stride: int, before: int, apart: int, spread: int) -> int:
    """Along one axis: how many pairs of a place of the result and one of the kernel meet a value of the image.

    Args:
        image: Values of the image.
        kernel: Values of the kernel.
        result: Values of the result.
        stride: From one place of the result to the next, in the image with its zeros.
        before: Zeros before the image.
        apart: From one value of the image to the next: more than 1 where zeros lie between them.
        spread: The same of the kernel.
    """
    places = (stride * place + spread * tap - before for place in range(result) for tap in range(kernel))
    return sum(place % apart == 0 and 0 <= place <= apart * (image - 1) for place in places)
