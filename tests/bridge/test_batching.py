"""The models' thread: equal calls that wait together become one, and each gets its own rows."""

import threading

import numpy as np
import pytest

from torch_bridge import batching
from torch_bridge.batching import Batcher


class Recorder:
    """A model that notes what it is given, answers with it, and can be held."""

    def __init__(self):
        self.seen, self.go = [], threading.Event()

    def __call__(self, capability, argument):
        self.go.wait(10)
        self.seen.append((capability, argument if isinstance(argument, list) else argument.shape))
        if isinstance(argument, list):
            return np.array([[len(text)] for text in argument], np.float32)
        if (argument == 255).any():
            raise ValueError("a bad frame")
        return argument.reshape(len(argument), -1).mean(1, keepdims=True)


@pytest.fixture
def held():
    """A batcher whose first call is under way while the test queues others."""
    model = Recorder()
    batcher = Batcher(model)
    first = batcher.submit("embed_text", ["first"])
    while not batcher._inbox.empty():
        pass
    yield batcher, model
    model.go.set()
    first.result(10)


def frames(value: int, count: int = 16, size: int = 8) -> np.ndarray:
    return np.full((count, size, size, 3), value, np.uint8)


def test_equal_calls_are_stacked_and_answered_apart(held):
    batcher, model = held
    videos = [batcher.submit("encode_video", frames(i)) for i in (1, 2, 3)]
    other = batcher.submit("encode_video", frames(4, count=8))
    images = [batcher.submit("embed_image", frames(i, count=i)) for i in (1, 2)]
    texts = [batcher.submit("embed_text", ["ab"]), batcher.submit("embed_text", ["abc", "d"])]
    model.go.set()
    assert [float(v.result(10)[0]) for v in videos] == [1, 2, 3] and float(other.result(10)[0]) == 4
    assert [i.result(10).ravel().tolist() for i in images] == [[1], [2, 2]]
    assert [t.result(10).ravel().tolist() for t in texts] == [[2], [3, 1]]
    assert model.seen[1:] == [
        ("encode_video", (3, 16, 8, 8, 3)),
        ("encode_video", (1, 8, 8, 8, 3)),
        ("embed_image", (3, 8, 8, 3)),
        ("embed_text", ["ab", "abc", "d"]),
    ]


def test_a_bad_argument_fails_alone(held):
    batcher, model = held
    good, bad = batcher.submit("encode_video", frames(1)), batcher.submit("encode_video", frames(255))
    model.go.set()
    assert float(good.result(10)[0]) == 1
    with pytest.raises(ValueError, match="a bad frame"):
        bad.result(10)


def test_a_stack_has_a_largest_size(held, monkeypatch):
    batcher, model = held
    monkeypatch.setattr(batching, "MAX_PIXELS", 2 * 16 * 8 * 8)
    videos = [batcher.submit("encode_video", frames(i)) for i in range(3)]
    model.go.set()
    assert [float(v.result(10)[0]) for v in videos] == [0, 1, 2]
    assert [shape[0] for _, shape in model.seen[1:]] == [2, 1]


@pytest.mark.parametrize(
    ("capability", "argument", "said"),
    [
        ("embed_text", "one sentence", "list of sentences"),
        ("embed_text", [], "list of sentences"),
        ("encode_video", np.zeros((16, 8, 8, 3), np.float32), "float32"),
        ("embed_image", np.zeros((8, 8, 3), np.uint8), r"\(8, 8, 3\)"),
    ],
)
def test_wrong_arguments_are_named(held, capability, argument, said):
    with pytest.raises(ValueError, match=said):
        held[0].submit(capability, argument)


def test_windows_that_come_again_are_encoded_once_while_there_is_room():
    """As much as `remember` says is kept, the last used ones; equal frames of another shape are another window."""
    asked = []

    def encode(capability, frames):
        asked.append(frames.shape)
        return frames.reshape(len(frames), -1).astype(np.float32).mean(1, keepdims=True)  # 4 bytes a window

    windows = [np.full((2, 4, 4, 3), shade, np.uint8) for shade in range(3)]
    batcher = Batcher(encode, remember=8)
    for shade in (0, 1, 0, 1, 2, 1, 0):  # the third pushes 0 out, which was not asked for longest
        assert batcher.submit("encode_video", windows[shade]).result(10) == shade
    assert len(asked) == 4
    batcher.submit("encode_video", windows[1].reshape(1, 8, 4, 3)).result(10)
    assert len(asked) == 5
