"""What every quantizer promises, asked of each registered one; and the gradients of those that learn."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat.numerics import GRIDS, QTensor, code_range, dequantize, params_of_range, quantize
from qat.quantizers import learning, quantizers

NAMES = quantizers.names()
QUICK = ("ste", "lsq", "pact", "lsq_plus")
SLOW = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NAMES]
each_quantizer = pytest.mark.parametrize("name", SLOW)
LEARNING = [one for one in SLOW if quantizers.build(str(one.values[0])).learned]
each_grid = pytest.mark.parametrize("grid", GRIDS)
each_axis = pytest.mark.parametrize("axis", [None, 1], ids=["tensor", "channel"])
VALUES = np.random.default_rng(0).standard_normal((8, 50)).astype(np.float32)
RANGES = np.random.default_rng(2).uniform(0.1, 3, (2, 200, 1)).astype(np.float32)
PULL = np.random.default_rng(1).standard_normal((8, 50)).astype(np.float32)


def calibrated(grid, axis, bits=4, share=0.8):
    """The grid of a share of the range of the values, so that some lie outside."""
    x, keep = VALUES * np.float32(share), axis is not None
    codes = (jnp.int32(code) for code in code_range(bits, grid))
    low, high = (jnp.asarray(f(x, axis=axis, keepdims=keep)) for f in (np.min, np.max))
    return params_of_range(grid, low, high, *codes)


def learned_of(name, p, factor):
    return jax.tree.map(lambda v: v * np.float32(factor), quantizers.build(name).init(p))


@cache
def compiled(name):
    """Gradients with respect to the values and what learns; values, with those of quantizing on the grid."""
    quantizer = quantizers.build(name)

    def both(x, p, learned):
        on = quantizer.grid(p, learned)
        there_and_back = dequantize(QTensor(quantize(x, on), on.scale, on.zero_point), x.dtype)
        return quantizer.fake_quant(x, p, learned), there_and_back

    def pulled(x, p, v, pull):
        return (learning(quantizer, x, p, v, x.size / p.scale.size) * pull).sum()

    slope = jax.grad(pulled, argnums=(0, 2))
    return jax.jit(slope), jax.jit(both)


def gradients(name, p, learned=None, x=VALUES, pull=PULL):
    """Gradients of the pulled sum with respect to the values and to what learns."""
    return compiled(name)[0](x, p, quantizers.build(name).init(p) if learned is None else learned, pull)


def passed(name, p):
    """The share of the gradient that passes in range, in float64: all, but for estimators that shape it."""
    steps = reach(p)[2]
    error = (steps - np.clip(2 * np.floor(steps / 2) + 1, -15, 15)) / 2 if p.odd else steps - np.round(steps)
    if name == "ewgs":
        return 1 + 0.2 * np.sign(PULL) * error
    if name == "stable":
        wave = np.sqrt(2) * np.pi * 0.21 * np.cos(np.pi * error)
        return (1 - wave) / (1 + wave)
    return 1.0


def reach(p):
    """Steps below and above zero, and the values in steps, in float64."""
    zero = 0 if p.zero_point is None else np.asarray(p.zero_point)
    return np.asarray(p.qmin) - zero, np.asarray(p.qmax) - zero, VALUES / np.float64(p.scale)


@each_quantizer
@each_grid
@each_axis
def test_the_values_that_learn_are_the_named_ones_in_the_shape_of_the_scale(name, grid, axis):
    quantizer, p = quantizers.build(name), calibrated(grid, axis)
    assert set(quantizer.init(p)) == set(quantizer.learned_on(grid)) <= set(quantizer.learned)
    assert all(v.shape == p.scale.shape for v in quantizer.init(p).values())


@each_quantizer
@each_grid
@each_axis
def test_learning_starts_at_the_calibrated_grid(name, grid, axis):
    quantizer, p = quantizers.build(name), calibrated(grid, axis)
    start = quantizer.grid(p, quantizer.init(p))
    np.testing.assert_allclose(start.scale, p.scale, rtol=2**-23)  # a bound over its steps, each rounded once
    for field in ("zero_point", "qmin", "qmax"):
        jax.tree.map(np.testing.assert_array_equal, getattr(start, field), getattr(p, field))


@each_quantizer
@each_grid
@each_axis
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_the_values_are_those_of_quantizing_on_its_grid_to_the_last_bit(name, grid, axis, dtype):
    p, x = calibrated(grid, axis), VALUES.astype(dtype)
    for factor in (1.0, 0.37, 1.9, -1.0):
        fake, there_and_back = compiled(name)[1](x, p, learned_of(name, p, factor))
        assert fake.dtype == dtype
        np.testing.assert_array_equal(fake, there_and_back)


@pytest.mark.parametrize("name", NAMES)
@each_grid
@each_axis
def test_the_gradient_passes_inside_the_range_and_nowhere_else(name, grid, axis):
    p = calibrated(grid, axis)
    found, _ = gradients(name, p)
    low, high, steps = reach(p)
    beyond = 0.5 if name in ("ste", "dorefa") and p.zero_point is not None else 0.0
    beyond = np.array([float(p.odd), float(p.odd and name != "pact")]) if p.odd else np.array([beyond, beyond])
    inside = (steps > low - beyond[0]) & (steps < high + beyond[1])
    assert inside.any() and not inside.all()
    want = np.where(inside, PULL * passed(name, p), 0)
    np.testing.assert_allclose(found, want, rtol=2**-22 if name != "stable" else 1e-4)  # scale * (1 / scale); a cosine


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_straight_through_reaches_the_ends_of_every_calibrated_range_and_no_step_beyond(bits):
    low, high = -RANGES[0], RANGES[1]
    p = params_of_range("affine", low, high, *(jnp.int32(code) for code in code_range(bits, "affine")))
    values = jnp.concatenate([low, high, low - 1.01 * p.scale, high + 1.01 * p.scale], 1)
    through = jax.grad(lambda x: quantizers.build("ste").fake_quant(x, p, {}).sum())(values)
    np.testing.assert_allclose(through, np.tile([1.0, 1, 0, 0], (200, 1)), rtol=2**-22)


@each_quantizer
@each_grid
def test_a_gradient_is_finite_for_a_tensor_of_zeros(name, grid):
    p = calibrated(grid, None, share=0)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients(name, p, x=0 * VALUES)))


@each_quantizer
def test_quantizers_can_be_vmapped(name):
    quantizer, p = quantizers.build(name), calibrated("affine", 1)
    rows = jax.tree.map(lambda v: v if v.ndim else jnp.broadcast_to(v, 8), p)
    mapped = jax.jit(jax.vmap(lambda x, p: quantizer.fake_quant(x, p, quantizer.init(p))))(VALUES, rows)
    np.testing.assert_array_equal(mapped, compiled(name)[1](VALUES, p, quantizer.init(p))[0])


@pytest.mark.parametrize("name", [n for n in NAMES if not quantizers.build(n).learned])
def test_a_scale_that_does_not_learn_gets_no_gradient(name):
    quantizer, p = quantizers.build(name), calibrated("affine", 1)
    pulled = jax.grad(lambda p: (quantizer.fake_quant(jnp.asarray(VALUES), p, {}) * PULL).sum(), allow_int=True)(p)
    np.testing.assert_array_equal(pulled.scale, 0)


@pytest.mark.parametrize("name", LEARNING)
@each_grid
def test_every_value_that_learns_gets_a_gradient(name, grid):
    _, learned = gradients(name, calibrated(grid, 1))
    assert set(learned) == set(quantizers.build(name).learned_on(grid))
    assert all((np.asarray(g) != 0).any() for g in learned.values())


@pytest.mark.parametrize("name", ["lsq", *(pytest.param(n, marks=pytest.mark.slow) for n in ("ewgs", "stable"))])
@pytest.mark.parametrize("bits", [2, 4, 8])
@each_grid
@each_axis
def test_the_learned_scale_has_the_gradient_of_lsq(name, bits, grid, axis):
    p = calibrated(grid, axis, min(bits, 7) if grid == "midrise" else bits)
    _, found = gradients(name, p)
    low, high, v = reach(p)
    beyond = 1.0 if p.odd else 0.0  # the bins of odd codes reach one further
    rounded = np.clip(2 * np.floor(v / 2) + 1, low, high) if p.odd else np.round(v)
    eq3 = np.where(v <= low - beyond, low, np.where(v >= high + beyond, high, rounded - v))
    gain = 1 / np.sqrt(VALUES.size / p.scale.size * np.maximum(high, -low))
    exact = (eq3 * PULL).sum(axis, keepdims=axis is not None) * gain
    np.testing.assert_allclose(found["scale"], exact, rtol=1e-4, atol=1e-5)  # float32 sums of 400 terms


@pytest.mark.parametrize("grid", ["affine", "unsigned"])
@each_axis
def test_lsq_plus_gives_scale_and_offset_the_gradients_of_the_paper(grid, axis):
    p = calibrated(grid, axis)
    _, found = gradients("lsq_plus", p)
    low, high, v = reach(p)
    zero, beyond = np.asarray(p.zero_point), (v < low) | (v > high)
    of_scale = np.where(v < low, np.asarray(p.qmin), np.where(v > high, np.asarray(p.qmax), np.round(v) - v))
    gain = 1 / np.sqrt(VALUES.size / p.scale.size * np.maximum(high, -low))
    for name, slope in (("scale", of_scale), ("offset", beyond)):
        exact = (slope * PULL).sum(axis, keepdims=axis is not None) * gain
        np.testing.assert_allclose(found[name], exact, rtol=1e-4, atol=1e-5)
    moved = quantizers.build("lsq_plus").grid(p, {"scale": p.scale, "offset": jnp.asarray((1.3 - zero) * p.scale)})
    assert (np.asarray(moved.zero_point) == np.maximum(zero - 1, int(p.qmin))).all()  # a whole code, on the grid


@pytest.mark.parametrize("text", ["stable(amplitude=0.3)", "stable(amplitude=-0.1)", "ewgs(delta=3)"])
def test_a_strength_that_turns_gradients_round_is_refused(text):
    with pytest.raises(ValueError, match="must be in"):
        quantizers.build(text)


@pytest.mark.parametrize("name", ["lsq", "pact"])
def test_a_learned_value_of_either_sign_stands_for_one_grid(name):
    p = calibrated("symmetric", 1)
    up, down = (gradients(name, p, learned_of(name, p, sign)) for sign in (1.0, -1.0))
    np.testing.assert_array_equal(up[0], down[0])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, -b), up[1], down[1])


@each_grid
@each_axis
def test_pact_gives_its_bound_the_gradient_of_what_it_clips(grid, axis):
    p = calibrated(grid, axis)
    _, found = gradients("pact", p)
    exact = np.where(quantizers.build("pact").init(p)["high"] < VALUES, PULL, 0).sum(axis, keepdims=axis is not None)
    np.testing.assert_allclose(found["high"], exact, rtol=1e-5, atol=1e-6)  # float32 sums of 400 terms


def test_pact_learns_at_every_bound_however_it_is_rounded():
    bounds = np.random.default_rng(2).uniform(0.1, 10, (1000, 1)).astype(np.float32)
    _, found = gradients("pact", calibrated("unsigned", None), {"high": bounds}, 2 * bounds, np.ones_like(bounds))
    np.testing.assert_allclose(found["high"], 1, rtol=2**-22)  # the scale times its reciprocal


def test_pact_moves_its_scale_with_its_bound():
    quantizer, p = quantizers.build("pact"), calibrated("unsigned", None, bits=4)
    on = quantizer.grid(p, {"high": jnp.float32(6.0)})
    np.testing.assert_allclose(on.scale, 6 / 15, rtol=2**-23)
    assert int(quantize(jnp.float32(7.0), on)) == int(p.qmax)


def test_lsq_counts_the_values_that_share_a_scale_of_a_group():
    p = calibrated("symmetric", 1)
    grouped = jax.tree.map(lambda v: jnp.repeat(v, 5, 1) if v.ndim else v, p)
    (_, whole), (_, parts) = gradients("lsq", p), gradients("lsq", grouped)
    assert parts["scale"].shape == (8, 5)
    np.testing.assert_allclose(parts["scale"].sum(1, keepdims=True), whole["scale"] * np.sqrt(5), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", LEARNING)
@each_grid
def test_gradients_are_finite_where_a_learned_value_is_zero_and_bring_it_back(name, grid):
    p = calibrated(grid, None)
    to_x, learned = gradients(name, p, learned_of(name, p, 0.0), np.abs(VALUES), np.ones_like(PULL))
    assert np.isfinite(to_x).all()
    assert all(np.isfinite(g).all() and (g > 0).all() for g in learned.values())


@pytest.mark.parametrize("name", LEARNING)
def test_gradients_are_finite_for_values_all_below_zero(name):
    x = -np.abs(VALUES) - 1
    codes = (jnp.int32(code) for code in code_range(8, "affine"))
    p = params_of_range("affine", jnp.asarray(x.min()), jnp.asarray(x.max()), *codes)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients(name, p, None, x)))


def test_lsq_learns_alike_on_values_and_on_their_negatives():
    p = calibrated("affine", None, bits=8)
    assert p.zero_point is not None
    turned = dataclasses.replace(p, zero_point=-1 - p.zero_point)
    (_, up), (_, down) = gradients("lsq", p), gradients("lsq", turned, None, -VALUES, -PULL)
    np.testing.assert_allclose(down["scale"], up["scale"], rtol=1e-4)
