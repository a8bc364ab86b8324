"""Norms folded into weights: the same function, the same sites, the integers that are served."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from zoo import ZOO

import qat
from qat.models.cnn import cnn
from qat.models.yolo_lite import yolo_lite

TOLERANCE = 1e-5  # of the largest output: rounding, in sums of another order


def shifted(shapes):
    """Arrays of these shapes, norms that shift and scale among them, as training leaves them."""
    random = np.random.default_rng(7)

    def one(x):
        values = random.standard_normal(x.shape).astype(x.dtype)
        return jnp.asarray(1 + 0.3 * np.abs(values) if x.ndim <= 2 else 0.2 * values)

    return jax.tree.map(one, shapes)


def of_linen(model, x):
    apply = functools.partial(model.apply, train=False)
    return apply, jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(1), x), (x,)


def detector():
    return of_linen(yolo_lite(classes=3, width=8), jax.random.normal(jax.random.key(0), (1, 32, 32, 3)))


def classifier():
    return of_linen(cnn(width=4), jax.random.normal(jax.random.key(0), (2, 8, 8, 1)))


class Block(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(4, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
        self.conv = nnx.Conv(8, 6, (3,), rngs=rngs)
        self.second = nnx.BatchNorm(6, use_running_average=True, use_scale=False, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.second(self.conv(nnx.relu(self.norm(self.up(x))))))


def of_nnx():
    graph, state = nnx.split(Block(nnx.Rngs(0)))
    return _merged(graph), state, (jax.random.normal(jax.random.key(0), (2, 5, 4)),)


@functools.cache
def _merged(graph):
    return lambda state, x: nnx.merge(graph, state)(x)


def normalized(p, y):
    return (y - p["mean"]) / jnp.sqrt(p["var"] + 1e-3) * p["scale"] + p["bias"]


def norm_of(*shape):
    return {name: jnp.ones(shape) for name in ("mean", "var", "scale", "bias")}


def layers_apply(params, x):
    """A scan over layers under remat, each a dense layer with a norm."""
    layer = jax.checkpoint(lambda x, p: (jnp.tanh(normalized(p, x @ p["kernel"])), None))
    return jax.lax.scan(layer, x, params)[0]


def layers():
    kernels = jax.random.normal(jax.random.key(3), (3, 4, 4))
    return layers_apply, {**norm_of(3, 4), "kernel": kernels}, (jax.random.normal(jax.random.key(0), (2, 4)),)


def heads_apply(params, x):
    """Weights on the left, results transposed and without axes of length one, a shift first, and a branch."""
    y = jnp.einsum("dhk,bd->bhk", params["heads"], x) + params["bias"]
    y = normalized(params["norm"], y)
    z = jax.lax.dot_general(params["left"], y.reshape(2, 6)[:, None], (((0,), (2,)), ((), ())))
    z = 1.0 - normalized(params["last"], z.transpose(1, 2, 0)[:, 0])

    def positive(z):
        return normalized(params["norm"], jnp.einsum("bd,dhk->bhk", z, params["heads"]))

    return jax.lax.cond(x.sum() > 0, positive, lambda z: jnp.zeros((2, 2, 3)), z)


def heads():
    keys = jax.random.split(jax.random.key(3), 3)
    params = {"heads": jax.random.normal(keys[0], (4, 2, 3)), "left": jax.random.normal(keys[1], (6, 4))}
    params |= {"bias": jnp.ones((2, 3)), "norm": norm_of(2, 3), "last": norm_of(4)}
    return heads_apply, params, (jnp.abs(jax.random.normal(keys[2], (2, 4))),)


def of_zoo(name):
    case = ZOO[name]()
    return case.fn, case.params, case.inputs(2, None, 0)


MODELS = {
    "yolo_lite": (detector, 18),
    "cnn": (classifier, 3),
    "nnx": (of_nnx, 2),
    "scan": (layers, 1),
    "heads": (heads, 3),
    "resnet": (lambda: of_zoo("resnet_eval"), 6),
    "mobilenet": (lambda: of_zoo("mobilenet"), 7),
}


SLOW = ("yolo_lite", "resnet", "mobilenet")


@pytest.fixture(params=[pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in MODELS], scope="module")
def model(request):
    make, count = MODELS[request.param]
    fn, params, inputs = make()
    return fn, shifted(params), inputs, count


def largest_difference(a, b):
    """Of the results, as a share of the largest value."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(jnp.abs(x - y).max() / jnp.abs(y).max()) for x, y in pairs)


def test_the_float_function_stays_equal_and_every_norm_is_folded(model):
    fn, params, inputs, count = model
    folded = qat.fold_norms(fn)
    assert largest_difference(jax.jit(folded)(params, *inputs), jax.jit(fn)(params, *inputs)) < TOLERANCE
    norms = folded.norms(params, *inputs)
    assert all(norm.site is not None for norm in norms), norms
    assert len(norms) == count


def test_sites_keep_their_ids_and_serving_equals_simulation_bit_for_bit(model):
    fn, params, inputs, _ = model
    recipe = qat.recipe("w8a8")
    q = qat.quantize(qat.fold_norms(fn), recipe)
    of_fn = qat.quantize(fn, recipe).sites(params, *inputs)
    assert [(site.id, site.path) for site in q.sites(params, *inputs)] == [(site.id, site.path) for site in of_fn]
    state = q.calibrate(params, [inputs])
    served = q.serve(q.convert(params, state, *inputs), *inputs)
    jax.tree.map(np.testing.assert_array_equal, served, q.simulate(params, state, *inputs))


def test_gradients_of_the_float_function_reach_the_same_parameters_and_are_equal():
    fn, params, inputs = layers()
    params = shifted(params)

    def gradients(f):
        return jax.jit(jax.grad(lambda p: (f(p, *inputs) ** 2).sum()))(params)

    assert largest_difference(gradients(qat.fold_norms(fn)), gradients(fn)) < 10 * TOLERANCE


def test_training_the_folded_function_moves_the_norm_and_the_kernel():
    fn, params, inputs = layers()
    params = shifted(params)
    q = qat.quantize(qat.fold_norms(fn), qat.recipe("w4a8"))
    state = q.calibrate(params, [inputs])
    found = jax.jit(jax.grad(lambda p: (q.simulate(p, state, *inputs) ** 2).sum()))(params)
    assert all(float(jnp.abs(of_leaf).max()) > 0 for of_leaf in jax.tree.leaves(found))


def test_no_multiplication_by_a_norm_is_left():
    fn, params, inputs = classifier()
    count = {f: str(jax.make_jaxpr(f)(params, *inputs)).count(":f32[2,8,8,4] = mul") for f in (fn, qat.fold_norms(fn))}
    assert list(count.values()) == [1, 0]


@pytest.mark.slow
def test_bfloat16_is_equal_up_to_its_own_rounding():
    fn, params, inputs = of_zoo("resnet_bf16")
    params = shifted(params)
    assert largest_difference(qat.fold_norms(fn)(params, *inputs), fn(params, *inputs)) < 0.02


def test_statistics_of_the_batch_are_left_alone_with_a_reason():
    model, x = cnn(width=4), jnp.ones((2, 8, 8, 1))
    params = classifier()[1]
    folded = qat.fold_norms(lambda p, x: model.apply(p, x, True, mutable=["batch_stats"]))
    inputs = (x,)
    norms = folded.norms(params, *inputs)
    assert len(norms) == 3
    assert all(norm.site is None and norm.reason == "it normalizes by statistics of its inputs" for norm in norms)
    with pytest.raises(ValueError, match=r"no norm that can be folded.*statistics of its inputs.*Quantize `fn` itself"):
        qat.quantize(folded, qat.recipe("w8a8")).sites(params, *inputs)


def test_keywords_choose_what_is_folded():
    model, x = cnn(width=4), jnp.ones((2, 8, 8, 1))
    variables = classifier()[1]
    q = qat.quantize(qat.fold_norms(model.apply), qat.recipe("w8a8"))
    assert len(q.sites(variables, x, train=False)) == 4
    with pytest.raises(ValueError, match="no norm that can be folded"):
        q.sites(variables, x, train=True, mutable=("batch_stats",))


def test_a_norm_without_a_layer_before_it_and_one_whose_layer_is_read_twice_are_left():
    def fn(p, x):
        y = x @ p["first"]
        return (
            normalized(p["a"], y) + y,
            normalized(p["b"], jax.nn.relu(x) @ p["second"]),
            normalized(p["c"], jnp.tanh(x)),
        )

    square = jnp.ones((4, 4))
    params = {"first": square, "second": square, "a": norm_of(4), "b": norm_of(4), "c": norm_of(4)}
    found = {norm.path: norm for norm in qat.fold_norms(fn).norms(params, jnp.ones((2, 4)))}
    assert found["b"].site == "second:dot_general:0"
    assert found["a"].reason == "the layer's result is read elsewhere as well"
    assert found["c"].reason == "before it is `tanh`, no layer with a weight"


def test_layers_whose_norms_come_in_another_order_keep_their_ids_and_stay():
    def fn(p, x, z):
        first, second = x @ p["kernel"], z @ p["kernel"]
        after = normalized(p["b"], second)
        return after + normalized(p["a"], first), normalized(p["c"], x @ p["other"])

    params = {"kernel": jnp.eye(4), "other": jnp.eye(4), "a": norm_of(4), "b": norm_of(4), "c": norm_of(4)}
    found = {norm.path: norm for norm in qat.fold_norms(fn).norms(params, jnp.ones((2, 4)), jnp.ones((2, 4)))}
    assert "another order" in str(found["a"].reason)
    assert "another order" in str(found["b"].reason)
    assert found["c"].site is not None


class Named(nn.Module):
    @nn.compact
    def __call__(self, x):
        dense, norm = nn.Dense(4, name="shared"), nn.BatchNorm(use_running_average=True, name="norm")
        return norm(dense(norm(dense(x))))


def test_a_layer_that_is_called_twice_is_folded_at_each_call():
    model, x = Named(), jax.random.normal(jax.random.key(2), (3, 4))
    params = shifted(jax.eval_shape(model.init, jax.random.key(0), x))
    folded = qat.fold_norms(model.apply)
    assert largest_difference(folded(params, x), model.apply(params, x)) < TOLERANCE
    sites = qat.quantize(folded, qat.recipe("w8a8")).sites(params, x)
    assert [site.id for site in sites] == ["Named/shared:dot_general:0", "Named/shared:dot_general:1"]


def test_what_is_no_function_is_refused():
    with pytest.raises(ValueError, match="`fn` must be a function"):
        qat.fold_norms({"params": 1})  # pyright: ignore[reportArgumentType]
