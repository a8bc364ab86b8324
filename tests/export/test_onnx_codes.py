"""Codes in ONNX Runtime beside those of serving, site by site: equal but for the rounding of biases; and what runs in
integers there."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_codes import INTEGER_PRODUCTS, compared, operators, run
from small_models import MODELS, batches_of, variables_of

import qat
from qat.export.onnx.export import to_onnx
from qat.models.adapter import forward

ROUNDED_BIAS = 0.02  # of a step of the codes: half a unit of a sum of products, where these sums are small
TIE = 1e-4  # of a step: float32 rounding of a value of some hundred steps


def normal(key, *shape):
    return jax.random.normal(jax.random.key(key), shape)


def conv(x, w):
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def residual(p, x):
    """Two residual blocks of convolutions with biases, then a head."""
    x = jax.nn.relu(conv(x, p["stem"]) + p["shift"])
    for w in p["blocks"]:
        x = jax.nn.relu(x + conv(jax.nn.relu(conv(x, w[0]) + p["shift"]), w[1]))
    return x.mean((1, 2)) @ p["head"]


def residual_model():
    params = {
        "stem": normal(0, 3, 3, 3, 8) / 5,
        "shift": normal(1, 8) / 5,
        "blocks": normal(2, 2, 2, 3, 3, 8, 8) / 9,
        "head": normal(3, 8, 4),
    }
    return residual, params, [(normal(10 + i, 4, 12, 12, 3),) for i in range(2)]


def upsampled(p, x):
    """A coarse map that a convolution reads, and an addition four times."""
    coarse = jax.nn.relu(conv(x[:, ::2, ::2], p["coarse"]))
    b, h, w, c = coarse.shape
    repeated = jax.lax.broadcast_in_dim(coarse, (b, h, 2, w, 2, c), (0, 1, 3, 5)).reshape(b, 2 * h, 2 * w, c)
    return conv(coarse, p["head"]), conv(jax.nn.relu(conv(x, p["fine"])) + repeated, p["head"])


def upsampled_model():
    shapes = {"coarse": (1, 1, 3, 8), "fine": (1, 1, 3, 8), "head": (1, 1, 8, 4)}
    params = {name: normal(i, *shape) for i, (name, shape) in enumerate(shapes.items())}
    return upsampled, params, [(normal(10 + i, 2, 8, 8, 3),) for i in range(2)]


def small(name):
    fn = MODELS[name].apply
    return (qat.fold_norms(fn) if name == "cnn" else fn), variables_of(name), [(x,) for x in batches_of(name)]


def drawn(spec, classes, batches, fold):
    """A model of the package with weights that are drawn, its norms and biases away from their start."""
    functions, random = forward(spec, classes=classes), np.random.default_rng(0)

    def one(x):
        scale = 0.2 if x.ndim < 2 else np.sqrt(2 / np.prod(x.shape[:-1]))
        values = random.standard_normal(x.shape) * scale
        return jnp.asarray(1 + np.abs(values) if x.ndim < 2 else values, x.dtype)

    variables = jax.tree.map(one, jax.eval_shape(functions.init, jax.random.key(0), *batches[0]))
    return (qat.fold_norms(functions.inference) if fold else functions.inference), variables, batches


def images(seed, size, channels):
    return (jnp.asarray(np.random.default_rng(seed).standard_normal((4, size, size, channels)), jnp.float32),)


def texts(seed):
    random = np.random.default_rng(seed)
    tokens = jnp.asarray(random.integers(1, 500, (4, 16)), jnp.int32)
    return tokens, jnp.asarray(np.arange(16) < random.integers(8, 17, (4, 1)))


CASES = {
    "residual": residual_model,
    "upsampled": upsampled_model,
    "folded norms": functools.partial(small, "cnn"),
    "transformer": functools.partial(small, "transformer"),
    "cnn": lambda: drawn("cnn(width=4)", 10, [images(i, 16, 1) for i in range(2)], True),
    "detector": lambda: drawn("yolo_lite(width=8)", 3, [images(i, 64, 3) for i in range(2)], True),
    "bert": lambda: drawn("bert(size='tiny', vocabulary=500)", 2, [texts(i) for i in range(2)], False),
}
SLOW = ("upsampled", "folded norms", "transformer", "detector", "bert")
FLOAT_RESULTS = {"residual": 1, "upsampled": 2, "folded norms": 2, "transformer": 2, "cnn": 1, "detector": 0, "bert": 4}
"""Sites whose result is read in float, by a mean, a norm, a leaky relu or as an output: ONNX Runtime joins them with
nothing."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in CASES])
def test_each_site_makes_the_served_codes_and_runs_in_integers(name, tmp_path):
    fn, params, batches = CASES[name]()
    q, inputs = qat.quantize(fn, qat.recipe_for("ort-cpu")), batches[-1]
    converted = q.convert(params, q.calibrate(params, batches), *inputs)
    model = to_onnx(q, converted, *inputs)
    codes = compared(q, converted, model, inputs)
    assert codes.largest <= 1 and codes.farthest < ROUNDED_BIAS, codes
    assert codes.different <= codes.total * 2e-3, codes
    exact = compared(q, converted, to_onnx(q, converted, *inputs, float_biases=True), inputs)
    assert exact.different <= codes.total * 2e-5 and exact.farthest < TIE, exact
    for found, want in zip(run(model, inputs), codes.outputs, strict=True):
        np.testing.assert_allclose(found, want, atol=0.03 * np.abs(want).max())
    counts = operators(model, tmp_path)
    sites = len([s for s in q.sites(params, *inputs) if s.reason is None and s.op != "embedding"])
    assert sum(counts[op] for op in INTEGER_PRODUCTS) == sites - FLOAT_RESULTS[name], (sites, counts)
