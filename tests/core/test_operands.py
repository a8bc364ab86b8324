"""Operands of sites: their tensors' keys, who observes a shared activation, and values that pass through jit."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

import qat
from qat.core.operands import ActivationGrid, ActivationOperand, WeightOperand
from qat.core.plan import SitePlan, make_plan

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (4, 8))
PARAMS = {"query": jax.random.normal(KEY, (8, 8)), "key": jnp.flip(jax.random.normal(KEY, (8, 8)))}


def attention(params, x):
    """A product of two weights' products, which share their input."""
    return (x @ params["query"]) @ (x @ params["key"]).T


def sites(recipe: str) -> dict[str, SitePlan]:
    plan = make_plan(attention, qat.recipe(recipe), PARAMS, (X,))
    return {site.contraction.id: site for site in plan.sites}


def test_a_site_says_the_keys_of_its_tensors_in_the_order_of_its_operands():
    found = sites("w8a8")
    assert {name: site.keys for name, site in found.items()} == {
        "query:dot_general:0": ("query:dot_general:0/lhs", "query"),
        "key:dot_general:0": ("query:dot_general:0/lhs", "key"),
        ":dot_general:0": (":dot_general:0/lhs", ":dot_general:0/rhs"),
    }
    activation, weight = found["key:dot_general:0"].operands
    assert isinstance(activation, ActivationOperand) and activation.spec.grid == "affine"
    assert weight == WeightOperand("key", (0, 1))


def test_a_side_in_float_has_no_key():
    found = sites("w8")
    assert found["query:dot_general:0"].operands == (None, WeightOperand("query", (0, 1)))
    assert found["query:dot_general:0"].keys == ("query",)
    assert found[":dot_general:0"].keys == ()


def test_a_shared_activation_is_observed_at_its_first_site_alone():
    found = sites("w8a8")
    assert [a.key for _, a in found["query:dot_general:0"].own_activations] == ["query:dot_general:0/lhs"]
    assert found["key:dot_general:0"].own_activations == []
    assert list(found["key:dot_general:0"].activations) == ["query:dot_general:0/lhs"]


def test_the_grid_of_an_activation_passes_through_jit():
    q = qat.quantize(attention, qat.recipe("w8a8"))
    state = q.calibrate(PARAMS, [X])
    grids = q.convert(PARAMS, state, X).grids
    grid = grids["query:dot_general:0/lhs"]
    passed = jax.jit(lambda one: one.with_nan(jnp.array(False)))(grid)
    assert isinstance(passed, ActivationGrid) and passed.grid is not None and grid.grid is not None
    assert passed.codes is None and passed.base is None
    np.testing.assert_array_equal(passed.grid.scale, grid.grid.scale)
    poisoned = grid.with_nan(jnp.array(True))
    assert poisoned.grid is not None and np.isnan(poisoned.grid.scale).all()


def test_a_dynamic_grid_holds_its_codes_and_is_never_poisoned():
    q = qat.quantize(attention, qat.recipe("w8a8_dynamic"))
    (grid, *_) = q.convert(PARAMS, q.calibrate(PARAMS, [X]), X).grids.values()
    assert grid.grid is None and grid.codes is not None
    assert (int(grid.codes[0]), int(grid.codes[1])) == (-127, 127)
    assert grid.with_nan(jnp.array(True)) is grid


def test_a_served_grid_has_nothing_that_only_gradients_read():
    q = qat.quantize(attention, qat.recipe("w4a4(quantizer='lsq')"))
    state = q.calibrate(PARAMS, [X])
    converted = q.convert(PARAMS, state, X)
    assert state.learned
    assert all(one.base is None and one.learned == {} for one in converted.grids.values())
    doubled = {
        key: replace(one, grid=replace(one.grid, scale=2 * one.grid.scale))
        for key, one in converted.grids.items()
        if one.grid is not None
    }
    assert not np.array_equal(q.serve(replace(converted, grids=doubled), X), q.serve(converted, X))
