"""Exported widths other than eight bits, weights alone and in groups, dynamic ranges, and sites inside branches."""

import jax
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_codes import compared, run

import qat
from qat.export.onnx.export import to_onnx
from qat.recipes.recipe import activation_spec, weight_spec

PARAMS = {
    "up": jax.random.normal(jax.random.key(0), (32, 24)) / 6,
    "down": jax.random.normal(jax.random.key(1), (24, 8)),
}
X = jax.random.normal(jax.random.key(2), (4, 32))


def layers(params, x):
    return jax.nn.relu(x @ params["up"] + 0.1) @ params["down"]


def branches(params, x):
    return jax.lax.cond(x.sum() > 0, lambda x: x @ params["up"], lambda x: -x @ params["up"], x)


def converted(fn, recipe):
    q = qat.quantize(fn, qat.recipe(recipe))
    return q, q.convert(PARAMS, q.calibrate(PARAMS, [0.6 * X, -0.6 * X]), X)  # values of X beyond its range are clipped


def test_weights_of_odd_codes_are_the_served_ones_and_activations_of_such_are_refused():
    q, int8 = converted(layers, "w1a8(edges='same')")
    assert compared(q, int8, to_onnx(q, int8, X, float_biases=True), (X,)).different == 0
    q, int8 = converted(layers, "w4(weight_grid='midrise', edges='same')")
    want = np.asarray(q.serve(int8, X))
    np.testing.assert_allclose(run(to_onnx(q, int8, X), (X,))[0], want, atol=2e-6 * np.abs(want).max())
    rule = qat.QuantRule(activations=activation_spec(4, grid="midrise"), weights=weight_spec(4))
    q = qat.quantize(layers, qat.QuantRecipe((rule,)))
    int8 = q.convert(PARAMS, q.calibrate(PARAMS, [X]), X)
    with pytest.raises(ValueError, match="no operator that rounds to odd codes"):
        to_onnx(q, int8, X)


def initializers(graph):
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from initializers(attribute.g)


@pytest.mark.parametrize("recipe", ["w8a4(edges='same')", "w4a4(grid='symmetric', edges='same')"])
def test_codes_of_few_bits_are_the_served_ones_where_biases_are_not_rounded(recipe):
    q, int8 = converted(layers, recipe)
    codes = compared(q, int8, to_onnx(q, int8, X, float_biases=True), (X,))
    assert codes.different == 0, codes
    assert compared(q, int8, to_onnx(q, int8, X), (X,)).largest <= 1


@pytest.mark.parametrize("opset", [17, 21])
@pytest.mark.parametrize("recipe", ["w8", "w4(edges='same')", "w4(group_size=8, edges='same')", "w8a8_dynamic"])
def test_weights_alone_in_groups_and_dynamic_ranges_give_what_serving_gives(recipe, opset):
    q, int8 = converted(layers, recipe)
    model = to_onnx(q, int8, X, opset=opset)
    want = np.asarray(q.serve(int8, X))
    np.testing.assert_allclose(run(model, (X,))[0], want, atol=2e-6 * np.abs(want).max())
    kinds = {one.data_type for one in initializers(model.proto.graph)}
    assert (22 in kinds) == (recipe.startswith("w4") and opset == 21)  # INT4
    assert bool(model.notes) == (22 in kinds)


@pytest.mark.parametrize("recipe", ["w8a8", "w4(edges='same')", "w8a8_dynamic"])
def test_sites_in_branches_hold_their_weights(recipe):
    """ONNX Runtime adds codes exactly, and packs those of 4 bits, only where weights are the subgraph's own."""
    q, int8 = converted(branches, recipe)
    model = to_onnx(q, int8, X)
    for x in (X, -X):
        want = np.asarray(q.serve(int8, x))
        np.testing.assert_allclose(run(model, (x,))[0], want, atol=2e-6 * np.abs(want).max())
