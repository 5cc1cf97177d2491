"""One thread that runs the models: equal calls that wait at the same time become one call."""

import hashlib
import queue
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from genreward_jax.rewards.base import Denoising
from torch_bridge.families import MODEL_OF

# Pixels of one stacked call: two windows of 16 frames at 480x480, which is what a GPU of 24 GB encodes at once.
MAX_PIXELS = 1 << 23


_VIDEOS = ("encode_video", "embed_video")  # stacked along a new axis; other arrays are joined along their first
_TEXTS = ("embed_text", "embed_video_text")


@dataclass
class _Call:
    capability: str
    argument: Any
    future: Future = field(default_factory=Future)

    @property
    def alike(self) -> tuple:
        """Calls with the same key may be stacked."""
        if isinstance(self.argument, list):
            return (self.capability,)
        if isinstance(self.argument, Denoising):
            asked = self.argument
            return (self.capability, asked.frames.shape, asked.history, asked.compare)
        shape = self.argument.shape
        return (self.capability, shape if self.capability in _VIDEOS else shape[1:])

    @property
    def pixels(self) -> int:
        if isinstance(self.argument, Denoising):
            return self.argument.frames.size // 3
        return len(self.argument) if isinstance(self.argument, list) else self.argument.size // 3


def check_argument(capability: str, argument: Any) -> Any:
    """The argument as the models take it: uint8 frames (count, H, W, 3), a list of sentences, or a Denoising.

    Raises:
        ValueError: Anything else.
    """
    if capability in _TEXTS:
        if isinstance(argument, str) or not argument or not all(isinstance(t, str) for t in argument):
            raise ValueError(f"{capability} takes a list of sentences, not {argument!r}")
        return list(argument)
    if MODEL_OF.get(capability) == "diffusion":
        if not isinstance(argument, Denoising) or not argument.levels:
            raise ValueError(f"{capability} takes a Denoising with one level or more, not {argument!r:.80}")
        if not all(0 <= level < 1 for level in argument.levels):
            raise ValueError(f"{capability} takes levels of noise from 0 to below 1, not {argument.levels}")
        return replace(argument, frames=_frames(capability, argument.frames))
    return _frames(capability, argument)


def _frames(capability: str, argument: Any) -> np.ndarray:
    frames = np.ascontiguousarray(argument)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise ValueError(
            f"{capability} takes uint8 frames of shape (count, height, width, 3), not {frames.dtype} {frames.shape}"
        )
    return frames


class Batcher:
    """Takes calls from any thread; ``run(capability, argument)`` is called on one thread only, in order of arrival.

    Args:
        run: The models.
        remember: Bytes of encode_video's answers that are kept by their frames' content, the last used ones.
    """

    def __init__(self, run: Callable[[str, Any], np.ndarray], remember: int = 0) -> None:
        self._run = run
        self._remember, self._known = remember, OrderedDict[bytes, Future]()
        self._looking, self._bytes = threading.Lock(), 0
        self._inbox: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self.calls = self.stacked = 0
        threading.Thread(target=self._loop, name="models", daemon=True).start()

    def submit(self, capability: str, argument: Any) -> Future:
        """Queues one call; the future holds the capability's array for this argument alone."""
        call = _Call(capability, check_argument(capability, argument))
        if self._remember and capability == "encode_video":
            return self._remembered(call)
        self._inbox.put(call)
        return call.future

    def _remembered(self, call: _Call) -> Future:
        """The future of an earlier call on the same frames, or of this one, which is queued then."""
        key = hashlib.blake2b(call.argument, key=repr(call.argument.shape).encode()).digest()
        with self._looking:
            known = self._known.pop(key, None)
            if known is None or (known.done() and known.exception()):
                known = call.future
                known.add_done_callback(self._keep)
                self._inbox.put(call)
            self._known[key] = known
        return known

    def _keep(self, future: Future) -> None:
        """Counts an answer's bytes and forgets those that were not asked for longest."""
        with self._looking:
            self._bytes += 0 if future.exception() else future.result().nbytes
            while self._bytes > self._remember and (oldest := next(iter(self._known.values()))).done():
                self._known.popitem(last=False)
                self._bytes -= 0 if oldest.exception() else oldest.result().nbytes

    def _loop(self) -> None:
        waiting: deque[_Call] = deque()
        while True:
            if not waiting:
                waiting.append(self._inbox.get())
            while not self._inbox.empty():
                waiting.append(self._inbox.get())
            first = waiting.popleft()
            group, pixels = [first], first.pixels
            for call in list(waiting):
                if call.alike == first.alike and pixels + call.pixels <= MAX_PIXELS:
                    group.append(call)
                    pixels += call.pixels
                    waiting.remove(call)
            self._answer(group)

    def _answer(self, group: list[_Call]) -> None:
        self.calls += 1
        self.stacked += len(group) - 1
        try:
            results = self._together(group)
        except Exception as error:
            if len(group) == 1:
                group[0].future.set_exception(error)
                return
            for call in group:  # one bad argument, or too much memory, is not the others' fault
                self._answer([call])
            return
        for call, result in zip(group, results, strict=True):
            call.future.set_result(result)

    def _together(self, group: list[_Call]) -> list[np.ndarray]:
        capability, arguments = group[0].capability, [call.argument for call in group]
        if isinstance(arguments[0], Denoising):
            return self._run(capability, arguments)
        if capability in _VIDEOS:
            return list(self._run(capability, np.stack(arguments)))
        joined = sum(arguments, []) if isinstance(arguments[0], list) else np.concatenate(arguments)
        ends = np.cumsum([len(a) for a in arguments])[:-1]
        return np.split(self._run(capability, joined), ends)
