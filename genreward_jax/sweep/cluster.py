"""Ray itself: a local one for the length of a sweep, or the cluster named by RAY_ADDRESS."""

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from genreward_jax.device import cores
from genreward_jax.errors import UserError
from genreward_jax.progress import amount

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to anyone
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Where memory runs out the kernel ends a training, which counts as a failure; Ray would start it again for ever.
    "RAY_memory_monitor_refresh_ms": "0",
}
OBJECTS = 80_000_000  # bytes of shared memory; only short messages go through it


@contextlib.contextmanager
def ray_for_a_sweep() -> Iterator[Any]:
    """The module ``ray``, connected: to RAY_ADDRESS if that is set, else to one of its own, gone afterwards.

    Raises:
        UserError: Ray is not installed, or the cluster cannot be reached.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise UserError(
            "Sweeps need Ray, which is not installed: make sweep installs it, or pip install -c constraints.txt "
            "-e '.[sweep]' does."
        ) from None
    if ray.is_initialized():  # the caller's own
        yield ray
        return
    address = os.environ.get("RAY_ADDRESS", "")
    check_address(address)
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address:
        settings["address"] = address
    else:
        settings |= {
            "address": "local",
            "num_cpus": cores(),
            "include_dashboard": False,
            "object_store_memory": OBJECTS,
        }
    try:
        ray.init(**settings)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        said = " ".join(str(error).split())[:300]
        what = f"The Ray cluster at RAY_ADDRESS={address} cannot be used" if address else "Ray cannot be started here"
        raise UserError(f"{what}: {said}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def check_address(address: str) -> None:
    """Refuses an address at which nothing listens: Ray would try for minutes and end the process.

    Args:
        address: As RAY_ADDRESS has it: '', 'auto' or 'host:port'.
    """
    if address in ("", "auto"):
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise UserError(
            f"RAY_ADDRESS is {address}; start the sweep on a machine of the cluster, with RAY_ADDRESS=host:6379 there."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=15).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"Nothing answers at RAY_ADDRESS={address} ({error}): start Ray there (ray start --head), or unset it."
        ) from None


def share(ray: Any, resources: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """What each run gets, as options of a Ray task, what was not asked for settled by what the nodes have.

    Args:
        resources: As :func:`genreward_jax.sweep.plan.check_resources` lets through.
        say: Told when no node has as much yet, on a cluster that may grow.

    Raises:
        UserError: A run asks for more than this machine has.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    most = {name: max((node.get(name, 0) for node in nodes), default=0) for node in nodes for name in node}
    options: dict[str, Any] = {
        "num_cpus": resources.get("num_cpus", min(2, int(most.get("CPU", 1)) or 1)),
        "num_gpus": resources.get("num_gpus", 1 if most.get("GPU") else 0),
    }
    if resources.get("memory"):
        options["memory"] = int(resources["memory"])
    if resources.get("custom"):
        options["resources"] = dict(resources["custom"])
    asked = {"CPU": options["num_cpus"], "GPU": options["num_gpus"], "memory": options.get("memory", 0)}
    asked |= options.get("resources", {})
    fitting = [node for node in nodes if all(node.get(name, 0) >= value for name, value in asked.items())]
    if not fitting:
        wish = ", ".join(f"{name} {_said(name, value)}" for name, value in asked.items() if value)
        have = "; ".join(
            ", ".join(f"{name} {_said(name, node.get(name, 0))}" for name, value in asked.items() if value)
            for node in nodes
        )
        sentence = f"A run asks for {wish}, and no node has as much (there: {have})"
        if not os.environ.get("RAY_ADDRESS"):
            raise UserError(f"{sentence}: lower the sweep's resources, or name a cluster by RAY_ADDRESS.")
        say(f"{sentence}: waiting for the cluster to grow.")
    return options


def _said(name: str, value: float) -> str:
    return amount(value) if name == "memory" else f"{value:g}"
