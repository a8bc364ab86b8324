"""The profile `ort-cpu` against ONNX Runtime itself: a convolution fuses in small graphs where the check says that it
does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qat
from qat.export.target_check import check_target

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

CHANNELS = 16
RNG = np.random.default_rng(0)
W = {name: jnp.asarray(RNG.standard_normal((CHANNELS, CHANNELS, 1, 1)), jnp.float32) for name in "ab"}
X = jnp.asarray(RNG.standard_normal((1, CHANNELS, 8, 8)), jnp.float32)


def conv(w, x):
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"))


class Chain:
    """A growing ONNX graph, whose methods give the name of a new value."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, value):
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def op(self, kind, *reads, **attributes):
        self.nodes.append(onnx.helper.make_node(kind, reads, [f"v{len(self.nodes)}"], **attributes))
        return self.nodes[-1].output[0]

    def quantized(self, x, zero=128, most=12.75):
        grid = self.constant(np.float32(most / 255)), self.constant(np.uint8(zero))
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, *grid), *grid)

    def conv(self, x):
        codes = RNG.integers(-127, 128, (CHANNELS, CHANNELS, 1, 1)).astype(np.int8)
        grid = np.full(CHANNELS, 0.01, np.float32), np.zeros(CHANNELS, np.int8)
        return self.op("Conv", x, self.op("DequantizeLinear", *map(self.constant, (codes, *grid)), axis=0))


def fused(make, path):
    """How many convolutions ONNX Runtime runs in integers, and how many in float."""
    graph = Chain()
    out = make(graph, graph.conv(graph.quantized("x")))
    info = onnx.helper.make_tensor_value_info
    shapes = [info("x", onnx.TensorProto.FLOAT, X.shape)], [info(out, onnx.TensorProto.FLOAT, None)]
    made = onnx.helper.make_graph(graph.nodes, "g", *shapes, graph.constants)
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.intra_op_num_threads, options.log_severity_level = str(path), 1, 3
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    ops = [node.op_type for node in onnx.load(path).graph.node]
    return ops.count("QLinearConv"), ops.count("Conv") + ops.count("FusedConv")


def ones(*shape):
    return np.ones(shape, np.float32)


CASES = {  # between two convolutions: in jax, and in ONNX with the zero point of what is quantized after it
    "nothing": (lambda x: x, lambda g, x: x, 128),
    "relu": (jax.nn.relu, lambda g, x: g.op("Relu", x), 0),
    "relu6": (
        lambda x: jnp.clip(x, 0, 6),
        lambda g, x: g.op("Clip", x, g.constant(np.float32(0)), g.constant(np.float32(6))),
        0,
    ),
    "transpose": (
        lambda x: x.transpose(0, 1, 3, 2),
        lambda g, x: g.op("Transpose", x, perm=[0, 1, 3, 2]),
        128,
    ),
    "slice": (
        lambda x: x[:, :, :4],
        lambda g, x: g.op("Slice", x, *(g.constant(np.array([n])) for n in (0, 4, 2))),
        128,
    ),
    "max pool": (
        lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 1, 1), "VALID"),
        lambda g, x: g.op("MaxPool", x, kernel_shape=[2, 2]),
        128,
    ),
    "norm": (
        lambda x: x * (2 * ones(1, CHANNELS, 1, 1)),
        lambda g, x: g.op("Mul", x, g.constant(2 * ones(1, CHANNELS, 1, 1))),
        128,
    ),
    "tanh": (jnp.tanh, lambda g, x: g.op("Tanh", x), 128),
    "sigmoid": (jax.nn.sigmoid, lambda g, x: g.op("Sigmoid", x), 128),
    "leaky relu": (jax.nn.leaky_relu, lambda g, x: g.op("LeakyRelu", x, alpha=0.01), 128),
    "mean": (
        lambda x: x.mean((2, 3), keepdims=True),
        lambda g, x: g.op("ReduceMean", x, axes=[2, 3]),
        128,
    ),
    "addition of floats": (lambda x: x + X, lambda g, x: g.op("Add", x, "x"), 128),
}


@pytest.mark.parametrize("name", CASES)
def test_a_convolution_fuses_where_the_check_says_so(name, tmp_path):
    between, make, zero = CASES[name]

    def fn(p, x):
        h = conv(p["a"], x)
        h = h + x if name == "addition of floats" else between(h)
        return conv(p["b"], h)

    q = qat.quantize(fn, qat.recipe("w8a8(edges='same')"))
    first, last = check_target(q, W, X, target="ort-cpu").sites
    expected = [site.runs == "integers" for site in (first, last)]
    most = 6.0 if name == "relu6" else 12.75  # a range that calibration finds, which makes the clamp part of it
    found = fused(lambda g, x: g.conv(g.quantized(make(g, x), zero, most)), tmp_path / "optimized.onnx")
    assert found == (sum(expected), 2 - sum(expected)) and not expected[1]


def test_a_clamp_before_symmetric_codes_does_not_fuse(tmp_path):
    q = qat.quantize(
        lambda p, x: conv(p["b"], jax.nn.relu(conv(p["a"], x))), qat.recipe("w8a8(edges='same', grid='symmetric')")
    )
    assert "a clamp before symmetric codes" in check_target(q, W, X, target="ort-cpu").sites[0].why
    assert fused(lambda g, x: g.conv(g.quantized(g.op("Relu", x), 128)), tmp_path / "optimized.onnx") == (0, 2)
