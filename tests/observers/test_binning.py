"""The one binning of observers and of the analysis: numpy's own counts, in numpy and compiled by jax alike."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat.observers.equal_bins import bin_of, widened

BINS = 64
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("exponent", [-100, -3, 0, 5, 120])
def test_bins_are_those_of_numpy_s_histogram(exponent):
    span = math.ldexp(1.0, exponent)
    edges = np.linspace(-span, span, BINS + 1)
    x = np.float32(span) * np.concatenate([RNG.uniform(-1, 1, 1000), np.linspace(-1, 1, BINS + 1)[:-1]]).astype("f4")
    expected, _ = np.histogram(x.astype(np.float64), edges)
    per_unit = np.float32(BINS // 2 / span)
    found = bin_of(x, per_unit, BINS)
    np.testing.assert_array_equal(np.bincount(found, minlength=BINS), expected)
    np.testing.assert_array_equal(jax.jit(bin_of, static_argnums=2)(x, per_unit, BINS), found)


def test_values_beyond_the_span_are_in_the_bins_at_the_ends():
    x = np.array([-1e30, -1.0, -0.0, 0.0, 1.0, 1e30], np.float32)
    np.testing.assert_array_equal(bin_of(x, np.float32(BINS // 2), BINS), [0, 0, 32, 32, BINS - 1, BINS - 1])


@pytest.mark.parametrize("doublings", [0, 1, 3, 40])
def test_a_wider_span_merges_bins_as_if_it_had_been_there_from_the_start(doublings):
    x = RNG.uniform(-1, 1, 1000).astype(np.float32)
    narrow, wide = (np.bincount(bin_of(x, np.float32(n), BINS), minlength=BINS) for n in (32, 32 / 2.0**doublings))
    np.testing.assert_array_equal(widened(narrow, doublings), wide)
    np.testing.assert_array_equal(jax.jit(widened)(jnp.asarray(narrow), jnp.int32(doublings)), wide)


def test_bins_may_begin_at_zero():
    x = np.array([-1.0, 0.0, 0.3, 0.99, 7.0], np.float32)
    found = bin_of(x, np.float32(8), 8, first=0)
    np.testing.assert_array_equal(found, [0, 0, 2, 7, 7])
    np.testing.assert_array_equal(jax.jit(bin_of, static_argnums=(2, 3))(x, np.float32(8), 8, 0), found)
    counts = np.arange(8)
    np.testing.assert_array_equal(widened(counts, 1, first=0), [1, 5, 9, 13, 0, 0, 0, 0])
    np.testing.assert_array_equal(widened(jnp.asarray(counts), jnp.int32(1), first=0), [1, 5, 9, 13, 0, 0, 0, 0])
