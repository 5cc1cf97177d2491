"""An agent's parameters without a backward pass and without polishing the program: the same ones, in a shorter start.

Upstream finds the parameters by tracing a whole train step and throwing its results away. They come into being in the
first, plain trace of each loss; its derivative, the longest part, makes none. And the program that draws them runs
once, so a CPU's compiler need not optimize what it will never run again: with an empty cache that was half of the time
until the first step. Can go: when upstream does not differentiate to initialise, and asks XLA for less there.
"""

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import embodied.jax.opt
import embodied.jax.transform
import jax
import jax.numpy as jnp
import ninjax as nj

from dreamerv3_patches.proxies import replace_names

ONCE = {"xla_backend_optimization_level": 1}  # 0 gives other last digits
DEBUGGING = "jax_disable_most_optimizations"
_making: ContextVar[bool] = ContextVar("making parameters", default=False)


def install() -> None:
    """Lets upstream's optimizer take its gradients from :func:`grad`, and its ``init`` compile with :data:`ONCE`.

    Once, after :func:`dreamerv3_patches.repairs.repair_jit`.
    """
    replace_names(embodied.jax.opt, "nj", grad=grad)
    module = embodied.jax.transform
    init, repaired = module.init, module.jax.jit

    @functools.wraps(init)
    def making(*args: Any, **kwargs: Any) -> Any:
        token = _making.set(True)
        try:
            return init(*args, **kwargs)
        finally:
            _making.reset(token)

    def jit(fun: Any, *args: Any, **kwargs: Any) -> Any:
        # The outermost, with shardings: one inside another may have no options. Upstream's own debugging asks for less.
        if _making.get() and args and jax.default_backend() == "cpu" and not jax.config.read(DEBUGGING):
            kwargs["compiler_options"] = ONCE
        return repaired(fun, *args, **kwargs)

    module.init = making
    replace_names(module, "jax", jit=jit)


def grad(fun: Callable, targets: Any, has_aux: bool = False) -> Callable:
    """ninjax's ``grad`` by state; while state may be created, zeros stand for the gradients, which nobody keeps.

    Random numbers are drawn as often and in the same order as by ninjax, so that what is created after is the same.

    Args:
        fun: Gives a loss, or with ``has_aux`` a loss and something more.
        targets: Modules whose parameters the gradients are by.

    Returns:
        Function giving the loss, the parameters, their gradients, and with ``has_aux`` what came beside the loss.
    """
    differentiated = nj.grad(fun, targets, has_aux=has_aux)
    traced = nj.pure(fun, nested=True)

    def wrapper(*args: Any, **kwargs: Any) -> tuple:
        context = nj.context()
        if not context.create:
            return differentiated(*args, **kwargs)
        given = jax.tree.map(lambda x: x, (args, kwargs))  # a loss may take things out of what it is given
        drawn = nj.seed(None, True)
        state, out, accessed, _, created = traced(
            dict(context), *given[0], ignore=True, track=True, seed=drawn, **given[1]
        )
        context.update({key: value for key, value in state.items() if key in created})
        nj.seed(None, True)  # what the derivative would have drawn
        prefixes = tuple(f"{module.path}/" for module in targets)
        params = {key: context[key] for key in context if key in accessed and key.startswith(prefixes)}
        zeros = jax.tree.map(jnp.zeros_like, params)
        return (out[0], params, zeros, out[1]) if has_aux else (out, params, zeros)

    return wrapper
