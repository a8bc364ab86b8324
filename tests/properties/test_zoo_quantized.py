"""Every model of the zoo: all contractions are found, serving equals simulation bit for bit, at other shapes too, and
it is lowered for GPUs without integer convolutions, which XLA lacks there, and for TPUs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lowered import convolutions
from zoo import ZOO

import qat

# Models in which XLA fuses the float parts between sites otherwise when serving, with the reason; none so far.
UNEQUAL: dict[str, str] = {}
OTHER_RECIPES = {
    "w4a4(observer='minmax')": ["lenet", "lstm"],
    "w8a8_dynamic": ["gru", "unet"],
    "w8": ["vit", "lstm", "lenet_bf16"],
    "w4(group_size=8)": ["mixer", "scan_remat"],
    "w8a8(products=False)": ["einsum_attention"],
    "w2a4(quantizer='lsq')": ["resnet_eval", "nnx_scan"],
    "w3a3(quantizer='pact', observer='minmax')": ["nnx_cnn"],
    "w4a8(observer='histogram')": ["text_cnn"],
    "w8a8(observer='percentile(99.9)')": ["nnx_transformer", "mlp"],
}
HEAVY = {
    "lenet", "unet", "mixer", "scan_remat", "resnet_eval", "nnx_scan", "text_cnn", "vit", "nnx_transformer",
}  # fmt: skip
# The others are compared in the slow tests, and all in benchmarks/coverage.py.
QUICK = ["mlp", "lenet_bf16", "mobilenet", "lstm", "custom_rules", "nnx_cnn", "callbacks"]
SLOW_RECIPES = ["w8a8", "w8a8_dynamic", "w4a4", "w8", "w2a4(quantizer='lsq')"]
AT_HOME = {"callbacks"}  # call functions of this process, which jax exports for no other platform
NEED_BRANCHES = {"moe_switch"}  # routes by its input: few batches do not reach every branch


def _arrays(tree) -> list[np.ndarray]:
    leaves = [x for x in jax.tree.leaves(tree) if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
    return [np.asarray(x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x) for x in leaves]


def _compare(name: str, recipe: str) -> None:
    case = ZOO[name]()
    q = qat.quantize(case.fn, qat.recipe(recipe))
    batches = [case.inputs(2, None, seed) for seed in range(40 if name in NEED_BRANCHES else 1)]
    state = q.calibrate(case.params, batches)
    int8 = q.convert(case.params, state, *batches[0])
    other = case.inputs(3, 7 if case.length_varies else None, 9)
    simulated, served = _arrays(q.simulate(case.params, state, *other)), _arrays(q.serve(int8, *other))
    assert all(np.isfinite(x).all() for x in served)
    if name not in AT_HOME:
        assert "i32" not in convolutions(q.serve, int8, *other, platform="cuda")
        assert "i32" not in convolutions(q.simulate, case.params, state, *other, platform="cuda")
        convolutions(q.serve, int8, *other, platform="tpu")
    for a, b in zip(simulated, served, strict=True):
        if name in UNEQUAL:
            assert np.abs(a - b).max() <= 1e-6 * (a.max() - a.min())
        else:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ZOO)
def test_every_contraction_is_found(name):
    case = ZOO[name]()
    sites = qat.quantize(case.fn, qat.recipe("w8a8")).sites(case.params, *case.inputs(2, None, 0))
    lookups = [s for s in sites if s.op == "embedding" and s.reason and "alone" in s.reason]
    assert len(sites) == case.contractions + case.constant_lookups
    assert len(lookups) == case.constant_lookups
    assert all(s.reason or s.rule for s in sites)
    assert len({s.id for s in sites}) == len(sites)


@pytest.mark.parametrize("name", QUICK)
def test_serving_equals_simulation_bit_for_bit(name):
    _compare(name, "w8a8")


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        pytest.param(recipe, name, marks=[pytest.mark.slow] * (name in HEAVY))
        for recipe, names in OTHER_RECIPES.items()
        for name in names
    ],
)
def test_serving_equals_simulation_bit_for_bit_under_other_recipes(recipe, name):
    _compare(name, recipe)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", SLOW_RECIPES)
@pytest.mark.parametrize("name", ZOO)
def test_serving_equals_simulation_bit_for_bit_under_every_recipe(recipe, name):
    _compare(name, recipe)


def test_the_models_that_differ_are_few():
    assert len(UNEQUAL) <= 0.05 * len(ZOO)
