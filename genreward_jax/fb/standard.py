"""Embeddings made fit for a small network: frames of one scene differ little, and that little is what counts."""

from typing import NamedTuple

import numpy as np


class Standard(NamedTuple):
    """A linear map fitted to a training set: less its mean, onto its principal components, at one common scale.

    Attributes:
        mean: float32 (n,).
        axes: float32 (n, k): the components, each divided by the scale.
    """

    mean: np.ndarray
    axes: np.ndarray

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """float32 (..., n) to (..., k)."""
        return ((np.asarray(embeddings, np.float32) - self.mean) @ self.axes).astype(np.float32)


def fit(embeddings: np.ndarray, components: int, whiten: float = 0.0) -> Standard:
    """The map for a training set.

    Args:
        embeddings: (rows, n).
        components: How many are kept, at most n.
        whiten: 0 keeps the components' spreads in proportion, 1 makes them all alike, between is between.

    Returns:
        Its output has a mean square of 1 over the training set.
    """
    rows = np.asarray(embeddings, np.float64)
    mean = rows.mean(0)
    centred = rows - mean
    variance, axes = np.linalg.eigh(centred.T @ centred / len(rows))  # ascending
    variance = np.maximum(variance[::-1][:components], 0.0)
    axes = axes[:, ::-1][:, :components]
    spread = np.sqrt(np.maximum(variance, 1e-8 * max(variance[0], 1e-30)))
    weight = spread**-whiten
    weight[variance <= 1e-8 * variance[0]] = 0.0  # nothing but rounding along these
    scale = np.sqrt(np.mean(variance * weight**2))
    axes = axes * (weight / max(scale, 1e-30))
    return Standard(mean.astype(np.float32), axes.astype(np.float32))
