"""A user's own rewards in a process of their own, under an interpreter whose packages need not go with ours."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from genreward_jax.rewards.base import is_ours
from torch_bridge.client import Bridge
from torch_bridge.spec import BridgeSpec, RewardSpec


class BridgeWithGuests(Bridge):
    """A bridge whose models and whose own rewards run under this interpreter, and all other rewards under another's.

    The other interpreter needs NumPy and what those rewards import; torch and the models' libraries only where one of
    them names a capability in its ``needs``, whose model is then loaded there as well.

    Args:
        spec: As :class:`Bridge`'s; its ``python`` is the interpreter of the other rewards.
        capabilities: Served by the models here.
        on_event: Told what happens in both processes.
    """

    def __init__(self, spec: BridgeSpec, capabilities: Iterable[str], on_event: Callable[[str], None] = print) -> None:
        super().__init__(replace(spec, python=""), capabilities, on_event=on_event)
        self._guests = Bridge(replace(spec, bare=True), (), on_event=on_event)
        self._hosted: set[str] = set()

    def start(self, wait: bool = True) -> Bridge:
        self._guests.start(wait=False)
        return super().start(wait)

    def close(self) -> None:
        super().close()
        self._guests.close()

    def add_reward(self, name: str, spec: RewardSpec) -> None:
        if is_ours(spec.path):
            super().add_reward(name, spec)
            return
        self._guests.add_reward(name, spec)
        self._hosted.add(name)

    def tell(self, name: str, method: str, argument: Any = None) -> Future:
        if name in self._hosted:
            return self._guests.tell(name, method, argument)
        return super().tell(name, method, argument)

    def describe(self) -> dict[str, Any]:
        """As the models' process says it; ``guests`` is what the other one says of itself. Waits for both."""
        guests = self._guests.describe()
        return super().describe() | {"guests": guests}

    def stats(self) -> dict[str, float]:
        """Both processes' together; the latency is the slower one's."""
        ours, theirs = super().stats(), self._guests.stats()
        together = {key: ours[key] + theirs[key] for key in ours}
        return together | {"latency_ms": max(ours["latency_ms"], theirs["latency_ms"])}
