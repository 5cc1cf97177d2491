"""Random network distillation in NumPy: slopes, running moments, and that what was often seen is no longer new."""

import numpy as np

from genreward_jax.rewards.exploration import BATCH, Moments, Novelty, forward, gradients

RNG = np.random.default_rng(0)


def test_gradients_are_those_of_finite_differences():
    layers = [RNG.normal(size=shape) for shape in ((5, 4), (4, 3), (3, 2))]
    inputs, wanted = RNG.normal(size=(6, 5)), RNG.normal(size=(6, 2))
    loss = lambda given: np.square(forward(given, inputs)[-1] - wanted).mean()
    slopes = gradients(layers, inputs, wanted)
    for number, layer in enumerate(layers):
        for index in np.ndindex(layer.shape):
            moved = [w.copy() for w in layers]
            moved[number][index] += 1e-6
            np.testing.assert_allclose(slopes[number][index], (loss(moved) - loss(layers)) / 1e-6, atol=1e-5)


def test_moments_are_numpys():
    parts = [RNG.normal(3, 2, (n, 4)) for n in (1, 5, 32)]
    moments = Moments((4,))
    for part in parts:
        moments.add(part)
    whole = np.concatenate(parts)
    np.testing.assert_allclose(moments.mean, whole.mean(0))
    np.testing.assert_allclose(moments.spread, whole.std(0))


def test_what_was_seen_often_is_less_new_than_what_was_not():
    """Two noisy scenes; the bonus of the first falls as it is shown, and that of the other stays above it."""
    scenes = RNG.integers(60, 200, (2, 16, 16, 3))
    look = lambda scene: np.clip(scenes[scene] + RNG.normal(0, 12, (16, 16, 3)), 0, 255).astype(np.uint8)
    novelty = Novelty(seed=1)
    assert novelty(look(0)) == 0.0
    for _ in range(BATCH):
        novelty.observe(look(0))
    seen = novelty._seen(np.stack([look(0).ravel() / 255 for _ in range(64)]))
    assert abs(seen.mean()) < 0.1 and 0.7 < seen.std() < 1.3  # less their mean, over their spread
    errors = {"early": novelty._error(novelty._seen(np.stack([look(0).ravel() / 255 for _ in range(16)]))).mean()}
    for _ in range(60 * BATCH):
        novelty.observe(look(0))
    for scene, name in ((0, "known"), (1, "new")):
        images = np.stack([look(scene).ravel() / 255 for _ in range(16)])
        errors[name] = novelty._error(novelty._seen(images)).mean()
    assert errors["known"] < 0.5 * errors["early"] and errors["known"] < 0.5 * errors["new"]
    assert novelty(look(1)) > novelty(look(0))
