"""Quantizing, dequantizing and their differentiable composition on every grid."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat.numerics import GRIDS, QParams, QTensor, code_range, dequantize, fake_quant, params_of_range, quantize

BITS = range(2, 9)
each_grid = pytest.mark.parametrize("grid", [grid for grid in GRIDS if grid != "midrise"])  # see test_midrise.py
each_width = pytest.mark.parametrize("bits", BITS, ids=lambda b: f"{b}bits")
ONE = 2**-23  # the gradient is the scale times its reciprocal
VALUES = np.random.default_rng(0).standard_normal((6, 64)).astype(np.float32)


@jax.jit
def both(x, p):
    codes = quantize(x, p)
    return codes, dequantize(QTensor(codes, p.scale, p.zero_point), x.dtype), fake_quant(x, p)


@jax.jit
def slope(x, p):
    return jax.grad(lambda x: fake_quant(x, p).astype(jnp.float32).sum())(x)


def fitted(x, bits, grid, axis=None):
    """The grid of the range of `x`, of all values or of those along `axis`."""
    qmin, qmax = (np.int32(code) for code in code_range(bits, grid))
    return _fitted(np.asarray(x, np.float32), qmin, qmax, grid, axis)


@partial(jax.jit, static_argnums=(3, 4))
def _fitted(x, qmin, qmax, grid, axis):
    keep = axis is not None
    return params_of_range(grid, x.min(axis, keepdims=keep), x.max(axis, keepdims=keep), qmin, qmax)


def covered(p):
    """Smallest and largest value on a grid, in float64."""
    zero = 0 if p.zero_point is None else np.asarray(p.zero_point)
    return [(np.float64(bound) - zero) * np.float64(p.scale) for bound in (p.qmin, p.qmax)]


@each_width
@each_grid
@pytest.mark.parametrize("axis", [None, 1], ids=["tensor", "channel"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_fake_quant_is_dequantize_of_quantize_to_the_last_bit(bits, grid, axis, dtype):
    x = jnp.asarray(VALUES * 3, dtype)
    codes, there_and_back, fake = both(x, fitted(x * 0.7, bits, grid, axis))
    assert codes.dtype == jnp.int8 and fake.dtype == dtype
    np.testing.assert_array_equal(there_and_back, fake)


@each_width
@each_grid
def test_compiled_and_eager_quantization_give_the_same_codes(bits, grid):
    p = fitted(VALUES, bits, grid, axis=1)
    np.testing.assert_array_equal(both(VALUES, p)[0], quantize(jnp.asarray(VALUES), p))


@each_width
@each_grid
def test_codes_stay_within_their_range_however_large_the_value(bits, grid):
    beyond = np.asarray([-np.inf, -3e38, -1e-38, 0, 1e-38, 3e38, np.inf], np.float32)
    for scale in (1e-20, 1.0, 1e30):
        p = fitted(VALUES * np.float32(scale), bits, grid)
        low, high = code_range(bits, grid)
        inside, outside = (np.asarray(both(x, p)[0]) for x in (VALUES * np.float32(scale), beyond))
        assert low <= inside.min() and inside.max() <= high
        assert (outside.min(), outside.max()) == (low, high)


@each_width
@each_grid
def test_zero_is_exactly_a_code(bits, grid):
    for offset in (-9.0, -0.7, 0.0, 0.3, 9.0):
        p = fitted(VALUES + np.float32(offset), bits, grid, axis=1)
        codes, value, _ = both(np.zeros_like(VALUES), p)
        np.testing.assert_array_equal(value, 0)
        zero = np.asarray(0 if p.zero_point is None else p.zero_point)
        np.testing.assert_array_equal(codes, np.broadcast_to(zero, codes.shape))


@each_width
@each_grid
def test_a_value_within_the_range_moves_by_at_most_half_a_step(bits, grid):
    x = np.abs(VALUES) if grid == "unsigned" else VALUES
    p = fitted(x, bits, grid)
    error = np.abs(np.float64(both(x, p)[1]) - x)
    assert error.max() <= np.float64(p.scale) * (0.5 + 1e-4)  # the last bits of x / scale, at most 255 steps


@each_width
@each_grid
def test_a_value_beyond_the_range_goes_to_its_end(bits, grid):
    p = fitted(VALUES, bits, grid)
    value = both(np.asarray([-1e6, 1e6], np.float32), p)[1]
    np.testing.assert_allclose(value, covered(p), rtol=1e-6)  # one product in float32


@each_width
@pytest.mark.parametrize("grid", ["affine", "unsigned"])
def test_a_relu_output_uses_every_code(bits, grid):
    x = np.linspace(0, 5.3, 4096, dtype=np.float32)
    assert len(np.unique(both(x, fitted(x, bits, grid))[0])) == 2**bits


@each_width
def test_a_symmetric_grid_uses_as_many_codes_on_either_side(bits):
    x = np.linspace(-2, 2, 4097, dtype=np.float32)
    codes = both(x, fitted(x, bits, "symmetric"))[0]
    np.testing.assert_array_equal(np.unique(codes), np.arange(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1)))


@each_width
@each_grid
def test_a_tensor_of_zeros_stays_zero_with_a_finite_gradient(bits, grid):
    x = jnp.zeros((4, 8))
    p = fitted(x, bits, grid, axis=1)
    assert np.isfinite(p.scale).all() and (np.asarray(p.scale) > 0).all()
    np.testing.assert_array_equal(both(x, p)[2], 0)
    np.testing.assert_array_equal(slope(x, p), 1)


@pytest.mark.parametrize("grid", ["symmetric", "affine"])
@pytest.mark.parametrize("size", [1e-38, 1e-32, 1e-30, 1e-28, 1e30, 1e37], ids="{:.0e}".format)
def test_tiny_or_huge_tensors_give_finite_values_within_half_a_step(grid, size):
    x = (VALUES / 4 * size).astype(np.float32)
    p = fitted(x, 8, grid)
    value, gradient = both(x, p)[2], slope(x, p)
    assert np.isfinite(value).all() and np.isfinite(gradient).all()
    assert (np.abs(np.float64(value) - x) <= np.float64(p.scale) * (0.5 + 1e-4)).all()


@each_width
@each_grid
def test_the_gradient_is_one_inside_the_range_and_zero_outside(bits, grid):
    p = fitted(VALUES, bits, grid)
    low, high = (jnp.float32(bound) for bound in covered(p))
    x = jnp.asarray([low - 1, low - p.scale / 8, (low + high) / 2, high + p.scale / 8, high + 1])
    np.testing.assert_allclose(slope(x, p), [0, 0, 1, 0, 0], rtol=ONE)


@each_width
def test_the_gradient_at_the_very_bound_is_one_for_every_scale(bits):
    x = np.random.default_rng(bits).uniform(1e-3, 1e3, (500, 1)).astype(np.float32)
    for grid, values in (("symmetric", np.hstack([x, -x])), ("unsigned", np.hstack([x, 0 * x]))):
        np.testing.assert_allclose(slope(values, fitted(values, bits, grid, axis=1)), 1, rtol=ONE)


def test_the_gradient_has_the_type_of_its_tensor():
    x = jnp.asarray(VALUES, jnp.bfloat16)
    assert slope(x, fitted(x, 8, "affine")).dtype == jnp.bfloat16


def test_the_gradient_of_the_scale_is_that_of_the_rounding_error():
    p = fitted(VALUES * 0.5, 4, "symmetric")
    found = jax.grad(lambda s: (fake_quant(jnp.asarray(VALUES), replace(p, scale=s)) * VALUES).sum())(p.scale)
    steps = VALUES / np.float64(p.scale)
    by_hand = np.where(np.abs(steps) <= 7, np.round(steps) - steps, 7 * np.sign(steps))
    np.testing.assert_allclose(found, (by_hand * VALUES).sum(), rtol=1e-5)  # sums of 384 products in float32


def test_a_range_that_does_not_hold_zero_is_widened_to_it():
    for low, high in ((2.0, 5.0), (-5.0, -2.0)):
        p = params_of_range("affine", jnp.float32(low), jnp.float32(high), jnp.int32(-128), jnp.int32(127))
        np.testing.assert_allclose(covered(p), [min(low, 0), max(high, 0)], rtol=1e-6)


def test_bit_widths_are_data_that_recompile_nothing():
    traced = 0

    @jax.jit
    def ranged(x, qmin, qmax):
        nonlocal traced
        traced += 1
        return fake_quant(x, params_of_range("affine", x.min(), x.max(), qmin, qmax))

    for bits in BITS:
        qmin, qmax = code_range(bits, "affine")
        assert len(np.unique(ranged(VALUES, jnp.int32(qmin), jnp.int32(qmax)))) <= 2**bits
    assert traced == 1


def test_a_grouped_scale_holds_for_each_of_its_values():
    p = QParams(jnp.asarray([[0.1, 10.0]]), None, jnp.int32(-7), jnp.int32(7))
    x = np.asarray([[0.31, -0.69, 31.0, -69.0], [0.04, 0.06, 4.0, 6.0]], np.float32)
    np.testing.assert_array_equal(both(x, p)[0], [[3, -7, 3, -7], [0, 1, 0, 1]])


@pytest.mark.parametrize("bits", [1, 9, 16, 0, -4, 4.0, "8", None], ids=repr)
def test_bits_that_no_code_has_are_refused(bits):
    with pytest.raises(ValueError, match=r"`bits` must be an integer in \[2, 8\], got"):
        code_range(bits, "symmetric")


def test_an_unknown_grid_is_refused():
    with pytest.raises(ValueError, match="`grid` must be one of symmetric, affine, unsigned, midrise, got 'log'"):
        code_range(8, "log")
