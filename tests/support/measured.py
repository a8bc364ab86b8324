"""What the tests of `qat.analysis` measure, and what numpy says of it."""

import jax.numpy as jnp
import numpy as np

import qat

ENERGY = 1e-3  # dB; energies are sums in float32, in another order than numpy's


def array(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def product(p, x):
    return x @ p


def both(name, fn=product, params=None, batches=None, **options):
    """A function quantized by a preset, its parameters and batches, and the state that these calibrate."""
    q = qat.quantize(fn, qat.recipe(name, edges="same", **options))
    params = array(48, 16) if params is None else params
    batches = [jnp.maximum(array(64, 48, seed=1), -0.3)] if batches is None else batches
    return q, params, q.calibrate(params, batches), batches


def decibels(x, quantized):
    x, quantized = np.asarray(x, np.float64), np.asarray(quantized, np.float64)
    return 10 * np.log10(np.sum(x**2) / np.sum((x - quantized) ** 2))


def counted(x, histogram):
    """The counts that numpy gives for the same edges, values beyond them in the bins at the ends."""
    places = np.searchsorted(np.asarray(histogram.edges)[1:-1], np.asarray(x, np.float64).ravel(), side="right")
    return tuple(np.bincount(places, minlength=len(histogram.counts)))


def number(value: float | None) -> float:
    assert value is not None
    return value
