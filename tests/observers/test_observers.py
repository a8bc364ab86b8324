"""What every observer promises, asked of each registered one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat.numerics import code_range, fake_quant, params_of_range
from qat.observers import observers

BATCHES_COUNT = {"ema"}  # an average over batches depends on what a batch is
NAMES = observers.names()
each_observer = pytest.mark.parametrize("name", NAMES)
each_symmetry = pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "affine"])
RNG = np.random.default_rng(0)
VALUES = np.stack([RNG.normal(0, 1, 3000), RNG.exponential(2, 3000), RNG.standard_t(3, 3000) - 1]).astype(np.float32)
LARGE = 768 * 1024
STEPS = jnp.float32(255)
_compiled = {}


def pieces(name):
    """The observer's update and range, compiled once for each observer."""
    if name not in _compiled:
        o = observers.build(name)
        _compiled[name] = o.init, jax.jit(o.update), jax.jit(o.range, static_argnums=2)
    return _compiled[name]


def seen(name, *batches):
    init, update, _ = pieces(name)
    state = init(batches[0].shape[0])
    for batch in batches:
        state = update(state, jnp.asarray(batch, jnp.float32))
    return state


def range_of(name, *batches, symmetric=False, steps=STEPS):
    return np.asarray(pieces(name)[2](seen(name, *batches), steps, symmetric))


@each_observer
def test_updates_and_ranges_are_pure_functions_that_compile(name):
    state = seen(name, VALUES)
    before = jax.tree.map(np.array, state)
    first, again = (range_of(name, VALUES, VALUES * 2) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    jax.tree.map(np.testing.assert_array_equal, before, state)
    with jax.checking_leaks():
        jax.jit(observers.build(name).update).lower(state, VALUES)


@each_observer
def test_the_state_takes_the_same_memory_however_much_was_seen(name):
    sizes = [jax.tree.map(lambda x: (x.shape, x.dtype), seen(name, *batches))
             for batches in ([VALUES[:, :1]], [VALUES] * 3)]  # fmt: skip
    assert sizes[0] == sizes[1]
    assert jax.tree.map(lambda x: (x.shape, x.dtype), observers.build(name).init(3)) == sizes[0]


@each_observer
@each_symmetry
def test_a_range_is_ordered_and_within_what_was_seen_widened_as_the_grid_is(name, symmetric):
    low, high = range_of(name, VALUES, VALUES * 3, symmetric=symmetric)
    least, most = np.minimum(VALUES.min(1) * 3, 0), np.maximum(VALUES.max(1) * 3, 0)
    if symmetric:
        least, most = np.minimum(least, -most), np.maximum(most, -least)
    beyond = 0 if symmetric else 0.5001 * (most - least) / STEPS  # a range of whole codes, of which zero is one
    assert (least - beyond <= low).all() and (low < high).all() and (high <= most + beyond).all()


@pytest.mark.parametrize("name", sorted(set(NAMES) - BATCHES_COUNT))
@pytest.mark.parametrize("cuts", [(1,), range(300, 3000, 300)], ids=["uneven", "even"])
def test_any_split_of_the_stream_gives_the_same_range_exactly(name, cuts):
    parts = np.split(VALUES, cuts, axis=1)
    whole = range_of(name, VALUES)
    np.testing.assert_array_equal(range_of(name, *parts), whole)
    np.testing.assert_array_equal(range_of(name, *parts[::-1]), whole)


@pytest.mark.parametrize("name", sorted(set(NAMES) - BATCHES_COUNT))
@pytest.mark.parametrize("growth", [2.0**15, 2.0**19, 1e12], ids="{:.0e}".format)
def test_small_values_before_large_ones_count_as_much_as_behind_them(name, growth):
    small, large = VALUES, VALUES * np.float32(growth)
    np.testing.assert_array_equal(range_of(name, small, large), range_of(name, large, small))
    np.testing.assert_array_equal(
        range_of(name, np.zeros_like(small), large), range_of(name, large, np.zeros_like(small))
    )


@each_observer
def test_the_same_batch_again_changes_nothing(name):
    np.testing.assert_allclose(range_of(name, *[VALUES] * 4), range_of(name, VALUES), rtol=1e-6)  # ema rounds each time


@each_observer
@each_symmetry
def test_channels_are_independent(name, symmetric):
    first = range_of(name, VALUES, VALUES * 2, symmetric=symmetric)
    other = np.stack([np.full(3000, 1e9), VALUES[1], np.zeros(3000)])
    second = range_of(name, other, other * [[1], [2], [1]], symmetric=symmetric)
    np.testing.assert_array_equal(first[:, 1], second[:, 1])


@each_observer
def test_observers_can_be_vmapped(name):
    o = observers.build(name)
    layers = jnp.stack([VALUES, VALUES * 2, VALUES**2])
    mapped = jax.jit(jax.vmap(lambda x: o.range(o.update(o.init(3), x), STEPS, False)))(layers)
    single = np.stack([range_of(name, layer) for layer in layers], 1)
    np.testing.assert_allclose(mapped, single, rtol=1e-6)


@each_observer
@each_symmetry
def test_a_constant_tensor_gets_a_grid_that_holds_its_value(name, symmetric):
    grid = "symmetric" if symmetric else "affine"
    for values in ((3.0, -3.0, 0.0), (1e-20, -1e-20, 1e-26), (1e20, -1e20, 1e30)):
        x = np.broadcast_to(np.asarray(values, np.float32)[:, None], VALUES.shape)
        codes = (jnp.int32(code) for code in code_range(8, grid))
        p = params_of_range(grid, *range_of(name, x, x, symmetric=symmetric), *codes)
        rounded = fake_quant(jnp.asarray(x[:, :1]), jax.tree.map(lambda a: a[:, None] if a.ndim else a, p))
        np.testing.assert_allclose(rounded, x[:, :1], rtol=1e-6)  # the scale is rounded to float32


@each_observer
def test_negative_values_give_a_range_below_zero(name):
    low, high = range_of(name, -np.abs(VALUES) - 0.5)
    assert (low < -0.5).all() and (high <= 0).all()


@each_observer
@each_symmetry
@pytest.mark.parametrize("factor", [2.0**-20, 0.25, 8.0], ids=str)
def test_a_range_scales_with_the_values(name, symmetric, factor):
    scaled = range_of(name, VALUES * np.float32(factor), symmetric=symmetric)
    np.testing.assert_allclose(scaled, range_of(name, VALUES, symmetric=symmetric) * factor, rtol=1e-6)


@each_observer
@pytest.mark.parametrize("channels", [128, 256, 768], ids=lambda n: f"{n}channels")
def test_of_a_large_tensor_no_channel_is_overlooked(name, channels):
    x = np.resize(np.linspace(-1, 2, channels, dtype=np.float32), (3, LARGE))
    low, high = range_of(name, x)
    step = 3 / 255  # half of which a range of whole codes may reach beyond
    assert (low >= -1 - step / 2).all() and (low < -0.9).all()
    assert (high > 1.9).all() and (high <= 2 + step / 2).all()
