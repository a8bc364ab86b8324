"""What other platforms than the CPU get: no integer convolution where XLA has none, and the same integers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convolutions import CONVS, Conv
from integers import conv as exact_conv
from lowered import convolutions, exported
from often import slow_after
from test_engines import codes, wide
from zoo.parameters import fill

import qat
from qat.engines import engines, taps
from qat.models.adapter import forward

NDHWC = ("NDHWC", "DHWIO", "NDHWC")
MORE = {
    **CONVS,
    "more_products_than_float32_holds": Conv((1, 3, 3, 1100), (2, 2, 1100, 3)),
    "grouped_wide": Conv((2, 5, 5, 64), (3, 3, 16, 68), groups=4, strides=(2, 1), padding=((1, 1), (0, 2))),
    "batch_last": Conv((7, 6, 5, 3), (4, 3, 2, 5), (1, 2), ((1, 1), (0, 1)), numbers=("HWCN", "OHWI", "CNHW")),
    "three_axes": Conv((1, 4, 5, 6, 17), (2, 3, 2, 17, 18), rhs_dilation=(1, 1, 2), numbers=NDHWC),
    "no_window_fits": Conv((2, 2, 2, 16), (3, 3, 16, 5)),
    "no_example": Conv((0, 4, 4, 16), (3, 3, 16, 5)),
}  # fmt: skip


@pytest.mark.parametrize("case", slow_after(8, MORE))
def test_without_a_convolution_the_sums_are_those_of_one(case):
    lhs, rhs, params = MORE[case].x, MORE[case].w, MORE[case].parameters
    for extreme in (False, True):
        a, b = jnp.asarray(codes(lhs, 0, extreme)), jnp.asarray(codes(rhs, 1, extreme))
        sums = taps.conv(a, b, **params)
        assert sums.dtype == jnp.int32
        if 0 in sums.shape:
            assert sums.shape == jax.lax.conv_general_dilated(a, b, **params).shape
        else:
            np.testing.assert_array_equal(wide(sums), exact_conv(wide(a), wide(b), **params))


@pytest.mark.parametrize("name", engines.names())
def test_only_a_gpu_gets_no_convolution(name):
    args = [jax.ShapeDtypeStruct(shape, jnp.int8) for shape in (CONVS["padded"].x, CONVS["padded"].w)]

    def conv(a, b):
        return engines.build(name).conv(a, b, **CONVS["padded"].parameters)

    found = {platform: convolutions(conv, *args, platform=platform) for platform in ("cuda", "rocm", "tpu", "cpu")}
    assert found == {"cuda": [], "rocm": [], "tpu": ["i32"], "cpu": ["i32"]}


def test_a_row_by_a_large_matrix_is_made_of_two_on_a_cpu_alone():
    args = [jax.ShapeDtypeStruct(shape, jnp.int8) for shape in ((1, 512), (512, 130))]
    dot = lambda a, b: engines.build("integer").dot(a, b, (((1,), (0,)), ((), ())))  # noqa: E731
    pads = {platform: exported(dot, *args, platforms=[platform]).mlir_module().count("stablehlo.pad")
            for platform in ("cpu", "cuda", "tpu")}  # fmt: skip
    assert pads == {"cpu": 1, "cuda": 0, "tpu": 0}


def test_a_symbolic_batch_and_image_are_lowered_for_every_platform():
    batch, side = jax.export.symbolic_shape("b, s", constraints=["s >= 8"])
    case = CONVS["strided"]
    args = jax.ShapeDtypeStruct((batch, side, side, 16), jnp.int8), jax.ShapeDtypeStruct(case.w, jnp.int8)
    conv = lambda a, b: engines.build("integer").conv(a, b, **case.parameters)  # noqa: E731
    whole = exported(conv, *args, platforms=["cpu", "cuda", "tpu"])
    a, b = codes(case.x, 0), codes(case.w, 1)
    np.testing.assert_array_equal(whole.call(a[:, :8, :8], b), conv(a[:, :8, :8], b))


DETECTOR = "yolo_lite(width=8)"
CLASSIFIER = "bert(layers=2, width=32, heads=4, hidden=48, vocabulary=40, positions=24)"
IDS = jnp.arange(24).reshape(2, 12)
MODELS = {
    DETECTOR: (jax.random.normal(jax.random.key(1), (2, 32, 32, 3)),),
    CLASSIFIER: (IDS, IDS % 5 > 0),
}


@pytest.fixture(scope="module", params=slow_after(1, MODELS))
def served(request):
    """A model's name, its served function, its converted weights and its inputs."""
    inputs = MODELS[request.param]
    net = forward(request.param, classes=6)
    variables = fill(jax.eval_shape(net.init, jax.random.key(0), *inputs))
    q = qat.quantize(net.inference, qat.recipe("w8a8"))
    state = q.calibrate(variables, [inputs])
    return request.param, q, variables, state, q.convert(variables, state, *inputs), inputs


def test_models_of_the_library_hold_no_integer_convolution_on_a_gpu(served):
    name, q, variables, state, int8, inputs = served
    for platform in ("cuda", "tpu"):
        kinds = {*convolutions(q.serve, int8, *inputs, platform=platform)}
        kinds |= {*convolutions(q.simulate, variables, state, *inputs, platform=platform)}
        assert kinds == ({"i32"} if platform == "tpu" and name == DETECTOR else set())


@pytest.mark.slow
def test_what_is_exported_for_several_platforms_gives_what_serving_does(served):
    _, q, _, _, int8, inputs = served
    whole = exported(q.serve, int8, *inputs, platforms=["cuda", "tpu", "cpu"])
    assert "stablehlo.case" in whole.mlir_module()
    expected = jax.tree.leaves(q.serve(int8, *inputs))
    for a, b in zip(jax.tree.leaves(jax.jit(whole.call)(int8, *inputs)), expected, strict=True):
        np.testing.assert_array_equal(a, b)
