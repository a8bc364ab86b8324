"""The numbers behind each observer: against numpy, brute force, or by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from test_observers import BATCHES_COUNT, LARGE, NAMES, VALUES, pieces, range_of, seen

from qat.observers import observers


def as_used(low, high, steps, symmetric):
    """The scale and the codes below zero of the grid over [low, high], as the package makes it, in float64."""
    if symmetric:
        return max(-low, high) / (steps / 2), steps / 2
    scale = (max(high, 0) - min(low, 0)) / steps
    return scale, np.round(-min(low, 0) / scale)


def squared_error(x, low, high, steps, symmetric) -> float:
    """Mean squared error of `x` on the grid over [low, high], its zero point rounded."""
    scale, below = as_used(float(low), float(high), steps, symmetric)
    return np.mean((x - np.clip(np.round(x / scale), -below, steps - below) * scale) ** 2)


def published_divergences(x, levels):
    """The threshold after each bin from the 128th on, and the divergence that the published entropy calibration gives
    it: 2,048 bins up to the largest size, a neighbour's count for the bin at zero."""
    counts, edges = np.histogram(np.abs(x), 2048)
    counts = counts.astype(float)
    counts[0] = counts[1]
    costs = []
    for i in range(128, 2049):
        level, kept = np.arange(i) * levels // i, counts[:i] > 0
        total, occupied = (np.bincount(level, v, levels) for v in (counts[:i], kept))
        q = np.where(kept, (total / np.maximum(occupied, 1))[level], 0)
        p = counts[:i].copy()
        p[-1] += counts[i:].sum()
        costs.append(scipy.stats.entropy(p, q))
    return edges[128:], np.asarray(costs)


def test_minmax_is_the_smallest_and_largest_value():
    np.testing.assert_array_equal(range_of("minmax", VALUES, -VALUES / 2),
                                  [np.minimum(VALUES.min(1), -VALUES.max(1) / 2), VALUES.max(1)])  # fmt: skip


def test_ema_is_a_mean_of_the_batches_in_which_each_weighs_more_than_the_one_before_by_its_momentum():
    low, high = range_of("ema(0.75)", *(np.asarray([[a, b]]) for a, b in ((-1, 8), (-5, 4), (0, 3))))
    weights = np.array([0.75**2, 0.75, 1])
    weights /= weights.sum()
    np.testing.assert_allclose([low, high], [[weights @ [-1, -5, 0]], [weights @ [8, 4, 3]]], rtol=1e-6)


def test_the_first_of_eight_batches_weighs_about_an_eighth():
    first, others = np.asarray([[-1.0, 1.0]]), [np.asarray([[0.0, 0.0]])] * 7
    low, high = range_of("ema", first, *others)
    np.testing.assert_allclose([low, high], [[-0.1207], [0.1207]], atol=1e-4)  # 0.99**7 / the sum of 0.99**0 to 0.99**7


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
    for found, q in ((low, 100 - p), (high, p)):
        near = np.stack([np.percentile(VALUES, q, axis=1, method=m) for m in ("lower", "higher")])
        assert (found >= near.min(0) - np.abs(near[0]) / 64).all() and (
            found <= near.max(0) + np.abs(near[1]) / 64
        ).all()


@pytest.mark.parametrize("name", ["normal", "t3", "t2", "lognormal", "cauchy"])
def test_percentiles_of_heavy_tails_are_numpys_to_two_percent(name):
    rng = np.random.default_rng(7)
    draw = {"normal": rng.standard_normal, "t3": lambda n: rng.standard_t(3, n), "t2": lambda n: rng.standard_t(2, n),
            "lognormal": lambda n: rng.lognormal(0, 2, n), "cauchy": rng.standard_cauchy}[name]  # fmt: skip
    x = draw(8 * LARGE // 6).astype(np.float32)
    state = seen("percentile", *np.split(x[None], 8, 1))
    for p in (99, 99.9, 99.99):
        found = observers.build(f"percentile({p})").range(state, jnp.float32(255), False)
        np.testing.assert_allclose(np.concatenate(found), np.percentile(x, [100 - p, p]), rtol=0.02)


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


SILU_OF_T3 = (lambda x: x / (1 + np.exp(-x)))(np.random.default_rng(3).standard_t(3, 16384))
NORMAL = np.random.default_rng(4).standard_normal(16384)
SHAPES = {
    "normal": NORMAL,
    "t3": np.random.default_rng(5).standard_t(3, 16384),
    "laplace": np.random.default_rng(6).laplace(size=16384),
    "silu": SILU_OF_T3,
    "gelu": NORMAL * scipy.stats.norm.cdf(NORMAL),
    "relu": np.maximum(NORMAL, 0),
    "outliers": np.where(np.arange(16384) % 4096, NORMAL, 100),
}


def least_squared_error(x, steps, symmetric) -> float:
    """The least error over all pairs of ends, each a fraction from 1 down to 0.01 of what was seen, by trying all."""
    low, high = min(x.min(), 0), max(x.max(), 0)
    some = np.geomspace(1, 0.01, 20 if low < 0 and not symmetric else 120)
    lows = some if low < 0 and not symmetric else [1.0]
    pairs = ((a, b) if not symmetric else (b, b) for a in lows for b in some)
    return min(squared_error(x, low * a, high * b, steps, symmetric) for a, b in pairs)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "affine"])
def test_mse_is_as_good_as_the_best_pair_of_ends_and_never_worse_than_the_whole_range(bits, symmetric):
    steps = 2**bits - 1 - symmetric
    lows, highs = range_of("mse", np.stack(list(SHAPES.values())), symmetric=symmetric, steps=jnp.float32(steps))
    for (name, x), low, high in zip(SHAPES.items(), lows, highs, strict=True):
        x = x.astype(np.float32).astype(np.float64)
        found, whole = (squared_error(x, *ends, steps, symmetric) for ends in ((low, high), (x.min(), x.max())))
        best = least_squared_error(x, steps, symmetric)
        assert found <= 1.01 * whole, (name, found / whole)
        assert found <= 1.1 * best, (name, found / best)


def test_the_range_of_mse_is_one_of_whole_codes():
    low, high = range_of("mse", VALUES, steps=jnp.float32(15))
    below = -low / ((high - low) / 15)
    np.testing.assert_allclose(below, np.round(below), atol=1e-5)


@pytest.mark.parametrize("name", ["normal", "laplace", "silu"])
@pytest.mark.parametrize("candidates", [128, 1921])
def test_entropy_takes_a_threshold_that_the_published_algorithm_finds_as_good_as_its_own(name, candidates):
    x = SHAPES[name].astype(np.float32)
    x = x / np.abs(x).max() * np.float32(0.50001)  # just above half a power of two: as many bins as there
    low, high = range_of(f"histogram({candidates})", x[None], symmetric=True, steps=jnp.float32(254))[:, 0]
    thresholds, costs = published_divergences(x, 128)
    assert low == -high
    assert costs[np.argmin(np.abs(thresholds - high))] <= costs.min() * (1.01 if candidates > 1000 else 1.25)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "affine"])
def test_entropy_clips_no_more_of_a_relu_than_the_tail(bits, symmetric):
    x, steps = SHAPES["relu"], 2**bits - 1 - symmetric
    low, high = range_of("histogram", x[None], symmetric=symmetric, steps=jnp.float32(steps))[:, 0]
    assert high > 0.6 * x.max() and low == (-high if symmetric else 0)
    assert squared_error(x, low, high, steps, symmetric) <= 1.01 * squared_error(x, 0.0, x.max(), steps, symmetric)


def test_exact_zeros_move_no_threshold_of_entropy():
    x = np.abs(NORMAL)[None]
    padded = np.concatenate([x, np.zeros((1, 50000))], 1)
    np.testing.assert_array_equal(range_of("histogram", padded), range_of("histogram", np.concatenate([x, [[0]]], 1)))


@pytest.mark.parametrize("name", ["mse", "histogram"])
@pytest.mark.parametrize("candidates", [1, 0, 2.5, True])
def test_a_number_of_candidates_that_is_no_choice_is_refused(name, candidates):
    with pytest.raises(ValueError, match="`candidates` must be an integer of at least 2, got"):
        observers.build(f"{name}({candidates})")


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


@pytest.mark.parametrize("name", ["mse", "percentile", "histogram"])
def test_a_count_grows_however_many_values_a_bin_holds(name):
    state = seen(name, VALUES)
    full = state._replace(counts=jnp.full_like(state.counts, 2.0**25))
    grown = pieces(name)[1](full, jnp.full((3, 8192), 0.5)).counts - full.counts
    np.testing.assert_array_equal(grown.max(1), 8192)


@pytest.mark.parametrize("name", ["mse", "percentile", "histogram"])
def test_every_value_of_a_large_tensor_counts(name):
    state = seen(name, *np.split(np.resize(VALUES, (3, LARGE)), 3, 1))
    np.testing.assert_array_equal(state.counts.sum(1), LARGE)


@pytest.mark.parametrize("name", sorted(BATCHES_COUNT))
def test_an_average_over_batches_stays_between_their_ranges(name):
    ranges = np.stack([range_of(name, VALUES), range_of(name, VALUES * 2)])
    found = range_of(name, VALUES, VALUES * 2)
    assert (ranges.min(0) <= found).all() and (found <= ranges.max(0)).all()
