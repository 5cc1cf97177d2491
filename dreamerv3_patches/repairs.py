"""What the official code of distribution ``dreamer`` 3.3.1 needs to run on today's libraries.

Each repair names the upstream functions it leans on; ``watch.py`` keeps their hashes, so that a new upstream cannot
slip under a repair unseen. Speed-ups live apart: of the train step in ``speedups.py``, of the start in
``initialising.py``. One comes with a repair: the driver's environments wait for a message without upstream's sleep.
"""

import functools
import importlib
import importlib.util
import logging
import os
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import elements
import jax

from dreamerv3_patches import checkpoint, env_server
from dreamerv3_patches.proxies import replace_names
from genreward_jax.errors import UserError

RUN_SCRIPTS = ("train", "train_eval", "eval_only", "parallel")
_JIT_POSITIONS = ("in_shardings", "out_shardings", "static_argnums", "static_argnames", "donate_argnums")
PATIENCE = {"warn_stuck": 10**6, "terminate": 10**9}  # seconds
_verbose = False


def install() -> None:
    """All repairs, each once; see :func:`dreamerv3_patches.apply.apply`."""
    repair_jit()
    repair_shard_map()
    repair_driver()
    repair_run_scripts()
    quieten()


def repair_jit() -> None:
    """Mends: jax.jit takes its options by keyword only. Can go: when upstream passes them by keyword."""

    def jit(fun: Any, *args: Any, **kwargs: Any) -> Any:
        return jax.jit(fun, **dict(zip(_JIT_POSITIONS, args, strict=False)), **kwargs)

    for name in ("transform", "agent", "internal"):
        replace_names(_module(f"embodied.jax.{name}"), "jax", jit=jit)


def repair_shard_map() -> None:
    """Mends: newer JAX lacks jax.experimental.shard_map. Can go: when upstream calls jax.shard_map."""
    name = "jax.experimental.shard_map"
    if importlib.util.find_spec(name) is not None:
        return

    def shard_map(fun: Any, mesh: Any, in_specs: Any, out_specs: Any, check_rep: bool = True) -> Any:
        return jax.shard_map(fun, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=check_rep)

    shim = ModuleType(name, "Stand-in for the module that JAX removed.")
    shim.shard_map = shard_map
    sys.modules[name] = shim


def repair_driver() -> None:
    """Mends: portal 3.8 gives an environment's process no context, its processes outlive a parent that is killed while
    they start, and upstream's loop sleeps 0.1 s when idle.

    Can go: when upstream's server fits today's portal and waits without sleeping.
    """
    module = _module("embodied.core.driver")
    replace_names(module, "portal", Process=env_server.Process)
    driver = module.Driver
    driver._env_server = staticmethod(env_server.serve)
    driver._receive = _receive
    driver.close = _close


def _receive(self: Any, pipe: Any, look_every: float = 1.0) -> Any:
    """The environment's answer; its error is raised here as it was raised there."""
    index = self.pipes.index(pipe)
    try:
        # While the driver is being made the parent still holds the child's end, so a dead child closes no pipe.
        while not pipe.poll(look_every):
            if not self.procs[index].running and not pipe.poll(0):
                raise EOFError
        kind, value = pipe.recv()
    except (EOFError, ConnectionError):
        self.procs[index].join(1.0)
        code = self.procs[index].exitcode
        kind, value = "error", env_server.EnvCrash(f"the process of environment {index} ended, exit code {code}")
    if kind == "result":
        return value
    _close(self)
    raise value


def _close(self: Any, patience: float = 5.0) -> None:
    """Ends the environments: in a process of its own each gets ``patience`` seconds in all to close itself."""
    if not self.parallel:
        [env.close() for env in self.envs]
        return
    [pipe.close() for pipe in self.pipes]
    deadline = time.monotonic() + patience
    for process in self.procs:
        process.join(max(0.0, deadline - time.monotonic()))
        process.kill()


def keeping_xla_flags(setup: Callable[..., None], **settings: Any) -> None:
    """Mends: upstream's set-up forgets the user's XLA_FLAGS; XLA ends a process one of whose devices waits for 40 s.

    Virtual devices of a CPU wait for each other whenever a process is stopped, or a machine is busy or asleep.
    Can go: when upstream adds to XLA_FLAGS, and XLA waits without an end.
    """
    own = os.environ.get("XLA_FLAGS", "")
    setup(**settings)
    patience = [f"--xla_cpu_collective_call_{name}_timeout_seconds={s}" for name, s in PATIENCE.items()]
    flags = [
        *os.environ.get("XLA_FLAGS", "").split(),
        *(patience if settings.get("mock_devices") else []),
        *own.split(),
    ]
    os.environ["XLA_FLAGS"] = " ".join(dict.fromkeys(flags))


def repair_run_scripts() -> None:
    """Mends: Agg.add with several aggregations, pickled checkpoints, unpatched child processes.

    Can go: when elements' Agg takes a tuple again, upstream's checkpoints hold no pickle, and no patch is left that
    a process of the parallel script must apply for itself.
    """
    for name in RUN_SCRIPTS:
        script = _module(f"embodied.run.{name}")
        replace_names(script, "elements", Agg=Agg, Checkpoint=checkpoint.Checkpoint)
        if hasattr(script, "pickle"):
            replace_names(script, "pickle", loads=_refuse_pickle)
    parallel = _module("embodied.run.parallel")
    replace_names(parallel, "portal", Process=_patched_process)


class Agg(elements.Agg):
    """elements.Agg that also takes several aggregations of one value, kept as ``<key>/<aggregation>``."""

    def add(self, key_or_dict: Any, value: Any = None, agg: Any = None, prefix: str | None = None) -> None:
        if not isinstance(agg, tuple):
            super().add(key_or_dict, value, agg, prefix)
            return
        items = key_or_dict if value is None else {key_or_dict: value}
        for name in agg:
            super().add({f"{key}/{name}": x for key, x in items.items()}, agg=name, prefix=prefix)


def _refuse_pickle(*args: Any, **kwargs: Any) -> None:
    raise UserError(
        "run.from_checkpoint would unpickle a file, which can run any code in it: "
        "leave it empty and point logdir at a run directory with a safetensors checkpoint instead."
    )


class _Patched:
    """A function for a fresh process: applies the patches there, then calls it."""

    def __init__(self, fn: Any) -> None:
        self.fn = fn
        self.__name__ = getattr(fn, "__name__", "process")

    def __call__(self, *args: Any) -> Any:
        from dreamerv3_patches.apply import apply

        apply()
        return self.fn(*args)


def _patched_process(fn: Any, *args: Any, **kwargs: Any) -> Any:
    import portal

    return portal.Process(_Patched(fn), *args, **kwargs)


def quieten() -> None:
    """Mends: banners, spaces and sizes printed by the hundred lines. Can go: when upstream logs instead of printing."""
    for name in ("agent", "internal", "transform", "opt"):
        module = _module(f"embodied.jax.{name}")
        module.print = _say
        if hasattr(module, "elements"):
            replace_names(module, "elements", print=_say)


def set_verbose(verbose: bool) -> None:
    """Whether upstream's agent prints what it builds, or only hands it to the logger ``dreamerv3``."""
    global _verbose
    _verbose = verbose


def _say(*args: Any, color: str | None = None, **kwargs: Any) -> None:
    if _verbose:
        functools.partial(print, **kwargs)(*args)
    else:
        logging.getLogger("dreamerv3").info(kwargs.get("sep", " ").join(str(x) for x in args))


def _module(name: str) -> ModuleType:
    return importlib.import_module(name)
