"""Under `jax_numpy_dtype_promotion="strict"` every spec, observer and quantizer works, with the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qat
from qat import QuantRecipe, QuantRule, TensorSpec
from qat.observers import observers
from qat.quantizers import quantizers

PARAMS = {"w": jax.random.normal(jax.random.key(0), (8, 4)), "c": jax.random.normal(jax.random.key(1), (3, 2, 4))}
X = jax.random.normal(jax.random.key(2), (6, 8))
IDS = jnp.array([0, 7, 3, 3, 1, 5])


def net(params, x, ids):
    h = jnp.tanh(x @ params["w"] + params["w"][ids])
    c = jax.lax.conv_general_dilated(
        h.reshape(2, 6, 2), params["c"], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )
    return jnp.einsum("bwi,bwj->bij", c, c)


def group(**changes):
    return TensorSpec(4, per="group", group_size=4, **changes)


def both(**changes):
    return TensorSpec(4, **changes), TensorSpec(4, grid="affine", **changes)


AFFINE, CHANNEL = TensorSpec(4, grid="affine"), TensorSpec(4, grid="affine", per="channel")
LEARNING = TensorSpec(4, grid="affine", per="channel", quantizer="lsq")
SEARCHES = {"histogram": "histogram(candidates=3)", "mse": "mse(candidates=3)"}  # op by op, few candidates
SEARCHING = {f"observer {name}" for name in (*SEARCHES, "percentile", "ema")}  # tens of seconds op by op; traced below
SPECS = {
    **{f"observer {name}": both(observer=SEARCHES.get(name, name)) for name in observers.names()},
    **{f"quantizer {name}": both(quantizer=name) for name in quantizers.names()},
    "affine weights": (CHANNEL, AFFINE),
    "affine weights that learn": (LEARNING, TensorSpec(4, grid="unsigned")),
    "affine weights alone": (CHANNEL, None),
    "activations alone": (None, AFFINE),
    "groups": (group(grid="affine"), AFFINE),
    "groups alone": (group(grid="affine"), None),
    "dynamic": (TensorSpec(8, dynamic=True), TensorSpec(8, grid="affine", per="token", dynamic=True)),
}


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("name", observers.names())
def test_no_observer_promotes(name, symmetric):
    """A type that would be promoted is refused when the observer is traced."""
    observer = observers.build(name)

    def found(values, steps):
        return observer.range(observer.update(observer.init(3), values), steps, symmetric)

    with jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(found, jnp.ones((3, 8)), jnp.float32(15))


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SEARCHING)) for name in SPECS])
def test_nothing_is_promoted(name):
    weights, activations = SPECS[name]
    q = qat.quantize(net, QuantRecipe((QuantRule(weights=weights, activations=activations),)))
    with jax.numpy_dtype_promotion("strict"):
        with jax.disable_jit():  # op by op: the specs share most operations
            state = q.calibrate(PARAMS, [(X, IDS)])
            int8 = q.convert(PARAMS, state, X, IDS)
        jax.eval_shape(jax.grad(lambda p: q.simulate(p, state, X, IDS).sum()), PARAMS)
        jax.eval_shape(q.serve, int8, X, IDS)
        jax.eval_shape(lambda p: q.simulate(p, state, X, IDS, observe=True), PARAMS)
    with jax.disable_jit():
        usual = q.calibrate(PARAMS, [(X, IDS)])
    jax.tree.map(np.testing.assert_array_equal, state.clips, usual.clips)
