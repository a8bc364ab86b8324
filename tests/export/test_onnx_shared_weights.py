"""A weight that several products share is stored once, and ONNX Runtime computes with it on any CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_codes import run

import qat
from qat.export.onnx.export import to_onnx

LAYERS = 12  # more than a matrix has ways to be reshaped to its own shape
W = jax.random.normal(jax.random.key(0), (8, 8)) / 2
X = jax.random.normal(jax.random.key(1), (4, 8))


def tied(w, x):
    for _ in range(LAYERS):
        x = jnp.tanh(x @ w)
    return x


@pytest.mark.parametrize(
    ("recipe", "stored"),
    [
        ("w8a8", 1),
        pytest.param("w8a8_dynamic", 1, marks=pytest.mark.slow),
        pytest.param("w4(edges='same')", 2, marks=pytest.mark.slow),
    ],
)
def test_products_of_one_weight_give_what_is_served(recipe, stored):
    q = qat.quantize(tied, qat.recipe(recipe))
    int8 = q.convert(W, q.calibrate(W, [(X,)]), X)
    model = to_onnx(q, int8, X)
    np.testing.assert_allclose(run(model, (X,))[0], q.serve(int8, X), atol=1e-5)
    assert sum(list(one.dims) == [8, 8] for one in model.proto.graph.initializer) == stored
