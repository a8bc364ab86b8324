"""Serving compiled ahead: equal to serving bit for bit, for inputs of one form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import ZOO

import qat
from qat.core.ahead import with_constants
from qat.core.convert import served_program

SLOW = ("bert", "mobilenet", "resnet_bf16", "scan_remat", "gpt")
MODELS = ["lenet_bf16", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def served(fn, params, inputs, recipe):
    q = qat.quantize(fn, qat.recipe(recipe))
    return q, q.convert(params, q.calibrate(params, [inputs]), *inputs)


def dense(params, x):
    y = jnp.tanh(x @ params["first"] * params["scale"] + params["bias"])
    return {"all": (y @ params["second"]) * 0.3 * params["scale"].sum(), "first": y}


@pytest.fixture(scope="module")
def small():
    keys = jax.random.split(jax.random.key(0), 4)
    params = {"first": jax.random.normal(keys[0], (8, 8)), "second": jax.random.normal(keys[1], (8, 8))}
    params |= {"scale": jax.random.normal(keys[2], (8,)), "bias": jnp.arange(8.0)}
    return params, (jax.random.normal(keys[3], (3, 8)),)


@pytest.mark.parametrize("name", MODELS)
def test_models_of_the_zoo_give_the_same_bits_as_simulation_and_serving(name):
    case = ZOO[name]()
    inputs, other = case.inputs(2, None, 0), case.inputs(2, None, 1)
    q = qat.quantize(case.fn, qat.recipe("w8a8"))
    state = q.calibrate(case.params, [inputs])
    int8 = q.convert(case.params, state, *inputs)
    compiled = q.compile(int8, *inputs)(*other)
    jax.tree.map(np.testing.assert_array_equal, compiled, q.serve(int8, *other))
    jax.tree.map(np.testing.assert_array_equal, compiled, q.simulate(case.params, state, *other))


@pytest.mark.parametrize("recipe", ["w8a8", "w8", "w4", "w8a8_dynamic"])
def test_recipes_give_the_same_bits_as_serving(small, recipe):
    params, inputs = small
    q, int8 = served(dense, params, inputs, recipe)
    jax.tree.map(np.testing.assert_array_equal, q.compile(int8, *inputs)(*inputs), q.serve(int8, *inputs))


def test_constants_alone_give_the_same_bits_as_values_computed_ahead(small):
    params, inputs = small
    q, int8 = served(dense, params, inputs, "w8a8")
    found = served_program(q.program, int8, inputs)
    both = [
        jax.jit(with_constants(found.jaxpr, found.constants, ahead))(found.read_of(inputs)) for ahead in (True, False)
    ]
    jax.tree.map(np.testing.assert_array_equal, *both)


def test_folded_norms_are_computed_ahead_and_keep_their_bits(small):
    params, inputs = small
    more = {**params, "mean": jnp.ones(8), "var": jnp.linspace(0.1, 2, 8)}

    def fn(p, x):
        return jax.nn.relu((x @ p["first"] - p["mean"]) * jax.lax.rsqrt(p["var"] + 1e-3) * p["scale"] + p["bias"])

    q, int8 = served(qat.fold_norms(fn), more, inputs, "w8a8")
    compiled = q.compile(int8, *inputs)
    jax.tree.map(np.testing.assert_array_equal, compiled(*inputs), q.serve(int8, *inputs))
    assert "rsqrt" not in compiled.executable.as_text()


def test_inputs_may_be_abstract_and_keywords_are_bound(small):
    params, (x,) = small

    def fn(p, x, *, shift, double):
        return (x @ p["first"] + shift) * (2 if double else 1)

    q = qat.quantize(fn, qat.recipe("w8a8_dynamic"))
    more = {"shift": jnp.ones(8), "double": True}
    int8 = q.convert(params, q.calibrate(params, [x], **more), x, **more)
    compiled = q.compile(int8, jax.ShapeDtypeStruct(x.shape, x.dtype), **more)
    np.testing.assert_array_equal(compiled(np.asarray(x), shift=jnp.ones(8)), q.serve(int8, x, **more))


def test_inputs_of_another_form_are_refused(small):
    params, inputs = small
    q, int8 = served(dense, params, inputs, "w8a8")
    compiled = q.compile(int8, *inputs)
    with pytest.raises(ValueError, match=r"compiled for inputs float32\[3, 8\], got float32\[4, 8\].*q.serve"):
        compiled(jnp.ones((4, 8)))
    with pytest.raises(ValueError, match="`compile` needs what `convert` returns"):
        q.compile(params, *inputs)  # pyright: ignore[reportArgumentType]
