"""Calibration streams any number of batches through one compiled step and refuses what would give wrong ranges."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qat
from qat.core import calibrate as calibration
from qat.core.calibrate import CHECK_EVERY

PARAMS = {"zeta": jnp.eye(4), "alpha": jnp.eye(4)}
MINMAX = qat.recipe("w8a8", edges="same")


def programs(jitted: Any) -> int:
    """How many programs a jitted function has compiled."""
    return jitted._cache_size()


def array(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def two(p, x):
    return jnp.log1p(x @ p["zeta"]) @ p["alpha"]


def bounds(state, key):
    return np.asarray(state.clips[key].low), np.asarray(state.clips[key].high)


@pytest.mark.parametrize("observer", ["minmax", "ema", "percentile"])
def test_any_number_of_batches_takes_one_compiled_step_and_the_same_memory(observer):
    q = qat.quantize(lambda p, x: x @ p, qat.recipe("w8a8", observer=observer, edges="same"))
    drawn = []

    def batches(n):
        for i in range(n):
            drawn.append(i)
            yield jnp.full((2, 4), 0.5 + i % 7)

    before = programs(calibration._step)
    few, many = (q.calibrate(jnp.eye(4), batches(n)) for n in (2, 3 * CHECK_EVERY + 1))
    assert programs(calibration._step) - before == 1
    assert len(drawn) == 2 + 3 * CHECK_EVERY + 1
    assert jax.tree.map(jnp.shape, few) == jax.tree.map(jnp.shape, many)


def test_bit_widths_are_data_to_calibration_as_well():
    calls = calibration._step, calibration._observed_weight, calibration._weight_range, calibration._ranges
    fn, counts = (lambda p, x: x @ p), []
    for name in ("w4a4", "w3a5", "w2a4"):
        q = qat.quantize(fn, qat.recipe(name, edges="same"))
        q.calibrate(jnp.eye(4), [array(2, 4)])
        counts.append([programs(call) for call in calls])
    assert counts[0] == counts[1] == counts[2]


def test_a_batch_is_taken_before_the_next_is_made():
    """A stream holds one batch at a time, so that data larger than memory calibrates."""
    alive = []

    class Batch:
        def __init__(self):
            alive.append(1)

        def __del__(self):
            alive.pop()

    def batches():
        for _ in range(5):
            owner = Batch()
            assert len(alive) <= 2
            yield array(2, 4)
            del owner

    qat.quantize(lambda p, x: x @ p, MINMAX).calibrate(jnp.eye(4), batches())


def test_a_batch_is_the_tuple_of_inputs_or_the_one_input():
    q = qat.quantize(lambda p, x: x @ p, MINMAX)
    one, tupled = (q.calibrate(jnp.eye(4), [b]) for b in (array(2, 4), (array(2, 4),)))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(tupled), strict=True):
        np.testing.assert_array_equal(a, b)


def test_minmax_does_not_depend_on_the_order_or_the_division_into_batches():
    q, x = qat.quantize(lambda p, x: x @ p, MINMAX), array(6, 4)
    orders = [[x[:2], x[2:4], x[4:]], [x[4:], x[:2], x[2:4]], [x[:4], x[4:]]]  # the last batch is smaller here
    states = [q.calibrate(jnp.eye(4), batches) for batches in orders]
    for state in states:
        np.testing.assert_array_equal(bounds(state, ":dot_general:0/lhs"), (x.min(), x.max()))


def test_no_batch_is_refused():
    with pytest.raises(ValueError, match=r"`batches` is empty.*at least one"):
        qat.quantize(two, MINMAX).calibrate(PARAMS, iter(()))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
def test_nan_and_infinity_in_an_activation_name_the_first_site_and_the_batches(bad):
    """The first in the flow of data, though another comes first in the alphabet."""
    batches = [jnp.ones((2, 4))] * (CHECK_EVERY + 2)
    batches[CHECK_EVERY + 1] = batches[0].at[1, 2].set(bad)
    where = rf"'zeta:dot_general:0/lhs'.*batches {CHECK_EVERY} to {CHECK_EVERY + 1}"
    with pytest.raises(ValueError, match=f"NaN or infinity in the activation {where}"):
        qat.quantize(two, MINMAX).calibrate(PARAMS, batches)


def test_nan_that_the_model_makes_names_the_site_that_reads_it():
    with pytest.raises(ValueError, match=r"'alpha:dot_general:0/lhs', in calibration batches 0 to 0"):
        qat.quantize(two, MINMAX).calibrate(PARAMS, [jnp.full((2, 4), -2.0)])


def test_nan_in_a_dynamic_activation_is_refused_too():
    with pytest.raises(ValueError, match="'zeta:dot_general:0/lhs'"):
        qat.quantize(two, qat.recipe("w8a8_dynamic")).calibrate(PARAMS, [jnp.full((2, 4), jnp.nan)])


@pytest.mark.parametrize("recipe", ["w8a8", "w8"])
def test_nan_in_a_weight_names_the_parameter(recipe):
    params = {**PARAMS, "alpha": PARAMS["alpha"].at[0, 0].set(jnp.nan)}
    with pytest.raises(ValueError, match="NaN or infinity in the parameter 'alpha'"):
        qat.quantize(two, qat.recipe(recipe)).calibrate(params, [jnp.ones((2, 4))])


CHANGED = {
    "dtype": jnp.ones((2, 4), jnp.bfloat16),
    "rank": jnp.ones((2, 3, 4)),
    "tree": {"x": jnp.ones((2, 4))},
    "number of inputs": (jnp.ones((2, 4)), jnp.ones((2, 4))),
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_batch_of_another_structure_is_refused(change):
    first = jnp.ones((2, 4))
    with pytest.raises(ValueError, match=r"batch 1 has another structure than the first: expected .*float32.* got"):
        qat.quantize(two, MINMAX).calibrate(PARAMS, [first, CHANGED[change]])


@pytest.mark.parametrize("batches", [np.ones((2, 4), np.float32), {"x": 1}, None], ids=["array", "dict", "none"])
def test_one_batch_is_not_an_iterable_of_batches(batches):
    with pytest.raises(ValueError, match=r"`batches` must be an iterable of batches.*\[batch\]"):
        qat.quantize(two, MINMAX).calibrate(PARAMS, batches)


def branching(p, x):
    return jax.lax.cond(x[0, 0] > 0, lambda: x @ p["alpha"], lambda: jnp.tanh(x @ p["zeta"]))


def test_a_branch_that_no_batch_takes_is_named_with_the_remedy():
    q = qat.quantize(branching, MINMAX)
    with pytest.raises(ValueError, match=r"no calibration batch reached zeta:dot_general:0/lhs.*Add batches.*dynamic"):
        q.calibrate(PARAMS, [jnp.ones((2, 4))])
    state = q.calibrate(PARAMS, [jnp.ones((2, 4)), -3 * jnp.ones((2, 4))])
    assert bounds(state, "zeta:dot_general:0/lhs") == (-3, -3)
    assert bounds(state, "alpha:dot_general:0/lhs") == (1, 1)


def test_a_branch_that_no_batch_takes_may_be_dynamic():
    q = qat.quantize(branching, qat.recipe("w8a8_dynamic"))
    state = q.calibrate(PARAMS, [jnp.ones((2, 4))])
    y = q.simulate(PARAMS, state, -jnp.ones((2, 4)))
    np.testing.assert_allclose(y, jnp.tanh(-jnp.ones((2, 4))), rtol=1e-5)  # -1 is a code of its own range


def test_scanned_layers_have_a_scale_each():
    layers = jnp.stack([2 * jnp.eye(4), 3 * jnp.eye(4), jnp.eye(4)])
    q = qat.quantize(lambda p, x: jax.lax.scan(lambda h, w: (h @ w, None), x, p)[0], MINMAX)
    x = jnp.ones((2, 4))
    state = q.calibrate(layers, [x])
    (key,) = [k for k in state.clips if k.endswith("/lhs")]
    np.testing.assert_array_equal(bounds(state, key)[1], [1, 2, 6])
    assert state.clips[key].qmin.shape == (3,)
    np.testing.assert_allclose(q.simulate(layers, state, x), 6 * x, rtol=1e-6)  # every value is a code of its scale


def test_a_recurrent_cell_has_one_scale_over_time_and_takes_other_lengths():
    params = jnp.eye(4)

    def rnn(p, xs):
        return jax.lax.scan(lambda h, x: (h @ p + x, None), jnp.zeros((2, 4)), xs)[0]

    q = qat.quantize(rnn, MINMAX)
    state = q.calibrate(params, [jnp.ones((5, 2, 4))])
    (key,) = [k for k in state.clips if k.endswith("/lhs")]
    assert bounds(state, key) == (0, 4)
    for length in (3, 6):  # beyond the calibrated 4 the state is clipped; each turn rounds by at most half a code
        y = q.simulate(params, state, jnp.ones((length, 2, 4)))
        np.testing.assert_allclose(y, min(length, 5), atol=length / 2 * 4 / 255 + 0.01)


def test_positions_added_in_a_loop_over_time_do_not_fix_its_length():
    params = {"cell": jnp.eye(4), "positions": array(9, 4)}

    def rnn(p, xs):
        rows = (xs, p["positions"][: len(xs)])
        return jax.lax.scan(lambda h, x: ((h + x[0] + x[1]) @ p["cell"], None), jnp.zeros((2, 4)), rows)[0]

    q = qat.quantize(rnn, MINMAX)
    state = q.calibrate(params, [jnp.ones((5, 2, 4))])
    for length in (3, 7):
        xs = jnp.ones((length, 2, 4))
        np.testing.assert_array_equal(q.simulate(params, state, xs), q.serve(q.convert(params, state, xs), xs))


def test_a_while_loop_shares_one_scale_over_its_turns():
    q = qat.quantize(lambda p, x: jax.lax.fori_loop(0, x[0, 0].astype(int), lambda _, h: h @ p, x), MINMAX)
    state = q.calibrate(2 * jnp.eye(4), [jnp.full((2, 4), 3.0)])
    (key,) = [k for k in state.clips if k.endswith("/lhs")]
    assert bounds(state, key) == (3, 12)


def test_batches_leave_no_trace_in_the_parameters():
    before = jax.tree.map(np.array, PARAMS)
    qat.quantize(two, MINMAX).calibrate(PARAMS, [jnp.ones((2, 4))])
    for key, w in before.items():
        np.testing.assert_array_equal(PARAMS[key], w)
