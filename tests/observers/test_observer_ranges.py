"""The numbers behind each observer: against numpy, brute force, or by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_observers import BATCHES_COUNT, LARGE, NAMES, VALUES, range_of, seen

from qat.observers import observers
from qat.observers.sketch import BINS, SAMPLES, update

STEPS = {bits: 2**bits - 1 for bits in (2, 4, 8)}
each_width = pytest.mark.parametrize("bits", STEPS, ids=lambda b: f"{b}bits")


def squared_error(x, low, high, steps) -> float:
    """Mean squared error of rounding `x` to a grid over [low, high], in float64."""
    step = (high - low) / steps
    return np.mean((x - (low + np.round((np.clip(x, low, high) - low) / step) * step)) ** 2)


def divergence(x, low, high, steps):
    """The divergence that entropy calibration minimises, on 2048 bins as the observer's, code by code."""
    span = 2 ** np.ceil(np.log2(np.abs(x).max()))
    counts, edges = np.histogram(x, BINS, (-span, span))
    middle = np.clip((edges[1:] + edges[:-1]) / 2, x.min(), x.max())
    inside = np.flatnonzero((middle >= low) & (middle <= high))
    p, q = np.where(np.isin(np.arange(BINS), inside), counts, 0.0), np.zeros(BINS)
    kept = p.copy()
    p[inside[0]] += counts[middle < low].sum()
    p[inside[-1]] += counts[middle > high].sum()
    code = np.round((np.clip(middle, low, high) - low) / ((high - low) / steps))
    for c in np.unique(code):
        bins = (code == c) & (p > 0)
        q[bins] = kept[bins].sum() / max(bins.sum(), 1)
    p, q = p / p.sum(), np.maximum(q / max(q.sum(), 1), 1e-12)
    return np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0]))


def test_minmax_is_the_smallest_and_largest_value():
    np.testing.assert_array_equal(range_of("minmax", VALUES, -VALUES / 2),
                                  [np.minimum(VALUES.min(1), -VALUES.max(1) / 2), VALUES.max(1)])  # fmt: skip


def test_ema_starts_at_the_first_batch_and_moves_by_its_momentum():
    low, high = range_of("ema(0.75)", *(np.asarray([[a, b]]) for a, b in ((-1, 8), (-5, 4), (3, 0))))
    np.testing.assert_array_equal([low, high], [[(-1 * 0.75 - 5 * 0.25) * 0.75], [(8 * 0.75 + 1) * 0.75 + 0.75]])


def test_ema_without_momentum_is_the_last_batch():
    np.testing.assert_array_equal(range_of("ema(0.0)", VALUES * 5, VALUES), range_of("minmax", VALUES))


@pytest.mark.parametrize("momentum", [-0.1, 1, 2.5])
def test_a_momentum_that_would_not_average_is_refused(momentum):
    with pytest.raises(ValueError, match=r"`momentum` must be in \[0, 1\), got"):
        observers.build(f"ema({momentum})")


def percentiles(p, *batches):
    """The range of the p-th percentile, by an update that is compiled once for all of them."""
    return np.asarray(observers.build(f"percentile({p})").range(seen("percentile", *batches), jnp.float32(255), False))


@pytest.mark.parametrize("p", [90.0, 99.0, 99.9])
def test_percentiles_are_numpys_to_within_a_bin(p):
    low, high = percentiles(p, *np.split(VALUES, 10, 1))
    width = 2 ** np.ceil(np.log2(np.abs(VALUES).max(1))) / (BINS // 2)
    for found, q in ((low, 100 - p), (high, p)):
        above = np.percentile(VALUES, q, axis=1, method="higher")
        below = np.percentile(VALUES, q, axis=1, method="lower")
        assert (found <= above + 1.001 * width).all() and (found >= below - 1.001 * width).all()


def test_the_hundredth_percentile_is_the_whole_range():
    np.testing.assert_array_equal(percentiles(100, VALUES), range_of("minmax", VALUES))


def test_percentiles_leave_out_a_rare_outlier():
    x = VALUES.copy()
    x[:, 17] = 1e4
    assert (percentiles(99.9, x)[1] < 30).all()


@pytest.mark.parametrize("p", [50, 100.5, 0, -1])
def test_a_percentile_that_leaves_no_range_is_refused(p):
    with pytest.raises(ValueError, match=r"`p` must be in \(50, 100\] percent, got"):
        observers.build(f"percentile({p})")


def test_a_sampled_percentile_of_a_large_tensor_is_numpys():
    x = np.random.default_rng(1).normal(0, 1, (3, LARGE)).astype(np.float32)
    found = percentiles(99, x, -x)
    exact = np.percentile(x[0], 99)
    np.testing.assert_allclose(np.abs(found), exact, rtol=0.05)  # of 16384 samples, 164 lie beyond


@each_width
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "affine"])
def test_mse_is_as_good_as_the_best_of_all_fractions(bits, symmetric):
    steps = STEPS[bits] - symmetric
    lows, highs = range_of("mse", VALUES, symmetric=symmetric, steps=jnp.float32(steps))
    for x, low, high in zip(VALUES.astype(np.float64), lows, highs, strict=True):
        a, b = min(x.min(), 0), max(x.max(), 0)
        a, b = (min(a, -b), max(b, -a)) if symmetric else (a, b)
        best = min(squared_error(x, a * f, b * f, steps) for f in np.linspace(0.1, 1, 400))
        assert squared_error(x, low, high, steps) <= best * 1.05  # 40 fractions, values known to a bin


@each_width
def test_mse_beats_the_whole_range(bits):
    steps = STEPS[bits]
    shrunk, whole = range_of("mse", VALUES, steps=jnp.float32(steps)), range_of("minmax", VALUES)
    for i, x in enumerate(VALUES):
        assert (
            squared_error(x, shrunk[0, i], shrunk[1, i], steps)
            <= squared_error(x, whole[0, i], whole[1, i], steps) * 1.01
        )


@each_width
def test_the_histogram_diverges_least_of_all_fractions(bits):
    found = range_of("histogram", VALUES, steps=jnp.float32(STEPS[bits])).T
    for x, (low, high) in zip(VALUES, found, strict=True):
        a, b = min(x.min(), 0), max(x.max(), 0)
        least = min(divergence(x, a * f, b * f, STEPS[bits]) for f in np.linspace(1, 0.1, 40))
        assert divergence(x, low, high, STEPS[bits]) <= least * 1.001 + 1e-6  # sums of 2048 terms in float32


@pytest.mark.parametrize("name", ["histogram", "mse"])
def test_an_outlier_does_not_widen_a_range_of_four_bits(name):
    x = np.clip(VALUES[[0, 0, 0]], -3, 3)
    x[:, 100] = (9, 12, -12)
    low, high = range_of(name, x, symmetric=True, steps=jnp.float32(14))
    assert (high < 6).all() and (low > -6).all()


@pytest.mark.parametrize("name", ["histogram", "mse"])
def test_evenly_spread_values_keep_their_whole_range(name):
    x = np.broadcast_to(np.linspace(-1, 1, 3000, dtype=np.float32), (3, 3000))
    low, high = range_of(name, x)
    assert (high >= 0.95).all() and (low <= -0.95).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_range_never_leaves_out_most_of_the_values(name):
    around_one = np.random.default_rng(2).normal(1, 0.05, 3000)
    half_zeros = np.where(np.arange(3000) % 2, around_one, 0)
    x = np.stack([around_one, -around_one, half_zeros]).astype(np.float32)
    for steps in (3.0, 15.0, 255.0):
        low, high = range_of(name, x, steps=jnp.float32(steps))
        assert (high[[0, 2]] > 0.8).all() and low[1] < -0.8


def test_a_count_grows_however_many_values_a_bin_holds():
    full = seen("mse", VALUES)._replace(counts=jnp.full((3, BINS), 2.0**25))
    grown = jax.jit(update)(full, jnp.full((3, SAMPLES), 0.5)).counts - full.counts
    np.testing.assert_array_equal(grown.max(1), SAMPLES)


@pytest.mark.parametrize("name", sorted(BATCHES_COUNT))
def test_an_average_over_batches_stays_between_their_ranges(name):
    ranges = np.stack([range_of(name, VALUES), range_of(name, VALUES * 2)])
    found = range_of(name, VALUES, VALUES * 2)
    assert (ranges.min(0) <= found).all() and (found <= ranges.max(0)).all()
