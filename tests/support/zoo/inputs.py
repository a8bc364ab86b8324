"""Makers of realistic inputs: each returns a function of `(batch, length, seed)`."""

import numpy as np

from .case import Inputs


def images(size: int = 16, channels: int = 3) -> Inputs:
    """Normalised images: smooth structure plus noise."""

    def make(batch: int, length: int | None = None, seed: int = 0) -> tuple[np.ndarray]:
        rng = np.random.default_rng(seed)
        phase = rng.uniform(0, 2 * np.pi, (batch, 1, 1, channels))
        grid = np.linspace(0, 3, size)
        waves = np.sin(grid[:, None, None] + grid[None, :, None] + phase)
        return ((waves + 0.3 * rng.standard_normal((batch, size, size, channels))).astype(np.float32),)

    return make


def features(*shape: int) -> Inputs:
    """Standard normal arrays of the shape `(batch, *shape)`."""

    def make(batch: int, length: int | None = None, seed: int = 0) -> tuple[np.ndarray]:
        return (np.random.default_rng(seed).standard_normal((batch, *shape)).astype(np.float32),)

    return make


def series(channels: int, usual: int = 12) -> Inputs:
    """Random walks `(batch, length, channels)`."""

    def make(batch: int, length: int | None = None, seed: int = 0) -> tuple[np.ndarray]:
        steps = np.random.default_rng(seed).standard_normal((batch, length or usual, channels))
        return ((0.3 * np.cumsum(steps, axis=1)).astype(np.float32),)

    return make


def tokens(vocabulary: int, usual: int = 12) -> Inputs:
    """Token ids `(batch, length)`, frequent ones being small numbers."""

    def make(batch: int, length: int | None = None, seed: int = 0) -> tuple[np.ndarray]:
        rng = np.random.default_rng(seed)
        return ((rng.zipf(1.5, (batch, length or usual)) % vocabulary).astype(np.int32),)

    return make


def padded_tokens(vocabulary: int, usual: int = 12) -> Inputs:
    """Token ids and their mask: 1 on tokens, 0 on the padding that ends shorter texts."""
    sample = tokens(vocabulary, usual)

    def make(batch: int, length: int | None = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        (ids,) = sample(batch, length, seed)
        lengths = np.random.default_rng(seed + 1).integers(ids.shape[1] // 2, ids.shape[1] + 1, batch)
        mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int32)
        return ids * mask, mask

    return make
