"""Random network distillation (Burda et al., 2018, arXiv:1810.12894): a bonus for what was not seen yet.

In NumPy and small: frames of 16 pixels through two little networks, which cost less than a model of pictures.
"""

import numpy as np

from genreward_jax.video import fit

SIDE, HIDDEN, FEATURES = 16, 128, 32
BATCH = 32  # frames in one update
_RATE, _DECAYS, _TINY = 1e-3, (0.9, 0.999), 1e-8  # Adam


class Novelty:
    """Error of a network that learns to predict another, random one, over its running spread.

    Args:
        seed: Of both networks.
    """

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        layer = lambda inputs, outputs: rng.normal(0, np.sqrt(2 / inputs), (inputs, outputs))
        pixels = SIDE * SIDE * 3
        self.target = [layer(pixels, HIDDEN), layer(HIDDEN, FEATURES)]
        self.predictor = [layer(pixels, HIDDEN), layer(HIDDEN, HIDDEN), layer(HIDDEN, FEATURES)]
        self._adam = [[np.zeros_like(w) for w in self.predictor] for _ in _DECAYS]
        self._updates = 0
        self._pixels, self._errors = Moments((pixels,)), Moments(())
        self._waiting: list[np.ndarray] = []

    def __call__(self, frame: np.ndarray) -> float:
        """Novelty of a frame, uint8 (H, W, 3): 0 or more, in units of its spread so far; 0 before the first update."""
        if not self._updates:
            return 0.0
        error = float(self._error(self._seen(_small(frame)[None]))[0])
        self._errors.add(np.array([error]))
        return error / max(float(self._errors.spread), 1e-8)

    def observe(self, frame: np.ndarray) -> None:
        """Learns from a frame, uint8 (H, W, 3); every 32nd call is an update."""
        self._waiting.append(_small(frame))
        if len(self._waiting) < BATCH:
            return
        batch, self._waiting = np.stack(self._waiting), []
        self._pixels.add(batch)
        inputs = self._seen(batch)
        self._step(gradients(self.predictor, inputs, forward(self.target, inputs)[-1]))

    def state(self) -> dict[str, np.ndarray]:
        """All that :meth:`load` needs."""
        arrays = {f"predictor{i}": w for i, w in enumerate(self.predictor)}
        arrays |= {f"adam{order}{i}": m for order, moments in enumerate(self._adam) for i, m in enumerate(moments)}
        arrays |= {
            f"{name}_{key}": v for name in ("pixels", "errors") for key, v in getattr(self, f"_{name}").state().items()
        }
        waiting = np.stack(self._waiting) if self._waiting else np.zeros((0, SIDE * SIDE * 3))
        return {**arrays, "updates": np.asarray(self._updates), "waiting": waiting}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Puts back what :meth:`state` gave."""
        self.predictor = [np.array(state[f"predictor{i}"]) for i in range(3)]
        self._adam = [[np.array(state[f"adam{order}{i}"]) for i in range(3)] for order in range(2)]
        for name in ("pixels", "errors"):
            getattr(self, f"_{name}").load({k: state[f"{name}_{k}"] for k in ("count", "mean", "squares")})
        self._updates, self._waiting = int(state["updates"]), list(np.array(state["waiting"]))

    def _seen(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels less their mean, over their spread, cut at 5, as the paper has it."""
        return np.clip((pixels - self._pixels.mean) / np.maximum(self._pixels.spread, 1e-2), -5, 5)

    def _error(self, inputs: np.ndarray) -> np.ndarray:
        return np.square(forward(self.predictor, inputs)[-1] - forward(self.target, inputs)[-1]).mean(1)

    def _step(self, slopes: list[np.ndarray]) -> None:
        self._updates += 1
        first, second = self._adam
        for i, slope in enumerate(slopes):
            first[i] = _DECAYS[0] * first[i] + (1 - _DECAYS[0]) * slope
            second[i] = _DECAYS[1] * second[i] + (1 - _DECAYS[1]) * np.square(slope)
            mean, square = (m[i] / (1 - d**self._updates) for m, d in zip(self._adam, _DECAYS, strict=True))
            self.predictor[i] = self.predictor[i] - _RATE * mean / (np.sqrt(square) + _TINY)


class Moments:
    """Running mean and spread of all that was added, shape ``shape`` each."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count, self.mean, self.squares = 0, np.zeros(shape), np.zeros(shape)

    def add(self, values: np.ndarray) -> None:
        """Adds values of shape (N, *shape) (Chan's formula)."""
        count, mean = len(values), values.mean(0)
        total, apart = self.count + count, mean - self.mean
        self.squares = self.squares + np.square(values - mean).sum(0) + np.square(apart) * self.count * count / total
        self.mean, self.count = self.mean + apart * count / total, total

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation; 1 before there are two values."""
        return np.sqrt(self.squares / self.count) if self.count > 1 else np.ones_like(self.squares)

    def state(self) -> dict[str, np.ndarray]:
        return {"count": np.asarray(self.count), "mean": self.mean, "squares": self.squares}

    def load(self, state: dict[str, np.ndarray]) -> None:
        self.count = int(state["count"])
        self.mean, self.squares = np.array(state["mean"]), np.array(state["squares"])


def forward(layers: list[np.ndarray], inputs: np.ndarray) -> list[np.ndarray]:
    """What each layer gives, ReLU between them: (N, inputs) to a list of (N, outputs)."""
    found = [inputs]
    for number, layer in enumerate(layers):
        outputs = found[-1] @ layer
        found.append(np.maximum(outputs, 0) if number + 1 < len(layers) else outputs)
    return found


def gradients(layers: list[np.ndarray], inputs: np.ndarray, wanted: np.ndarray) -> list[np.ndarray]:
    """Slopes of the mean squared error of the last layer's outputs to ``wanted``, one a layer."""
    given = forward(layers, inputs)
    back, slopes = 2 * (given[-1] - wanted) / wanted.size, []
    for layer, before in zip(reversed(layers), reversed(given[:-1]), strict=True):
        slopes.append(before.T @ back)
        back = (back @ layer.T) * (before > 0)
    return slopes[::-1]


def _small(frame: np.ndarray) -> np.ndarray:
    return fit(frame[None], SIDE)[0].astype(np.float64).ravel() / 255
