"""Every engine's integer products are the exact ones, whatever their shape."""

import ast
import warnings
from pathlib import Path

import integers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convolutions import CONVS
from often import slow_after

import qat
from qat.engines import engines

each_engine = pytest.mark.parametrize("name", engines.names())
DOTS = {
    "matrix": ((5, 16), (16, 7), (((1,), (0,)), ((), ()))),
    "transposed": ((16, 5), (7, 16), (((0,), (1,)), ((), ()))),
    "vector": ((33,), (33,), (((0,), (0,)), ((), ()))),
    "batch": ((2, 3, 5, 8), (2, 3, 7, 8), (((3,), (3,)), ((0, 1), (0, 1)))),
    "batch_in_the_middle": ((4, 2, 8), (8, 5, 2), (((2,), (0,)), ((1,), (2,)))),
    "two_contracted": ((3, 4, 5, 6), (5, 4, 2), (((2, 1), (0, 1)), ((), ()))),
    "outer": ((3,), (4,), (((), ()), ((), ()))),
    "long": ((2, 5000), (5000, 3), (((1,), (0,)), ((), ()))),
    "empty": ((0, 4), (4, 3), (((1,), (0,)), ((), ()))),
    "row": ((1, 512), (512, 130), (((1,), (0,)), ((), ()))),
    "rows_of_two_axes": ((1, 256, 3), (300, 256), (((1,), (1,)), ((), ()))),
    "vector_by_matrix": ((300,), (300, 256), (((0,), (0,)), ((), ()))),
    "no_row": ((0, 300), (300, 256), (((1,), (0,)), ((), ()))),
}


def codes(shape, seed, extreme=False):
    """Codes of the whole range; `extreme` ones give the largest sum there can be."""
    drawn = np.random.default_rng(seed).integers(-128, 128, shape)
    return np.full(shape, -128, np.int8) if extreme else drawn.astype(np.int8)


def wide(x):
    return np.asarray(x, np.int64)


@each_engine
@pytest.mark.parametrize("case", DOTS)
def test_a_dot_is_the_exact_integer_one(name, case):
    lhs, rhs, numbers = DOTS[case]
    for extreme in (False, True):
        a, b = codes(lhs, 0, extreme), codes(rhs, 1, extreme)
        sums = engines.build(name).dot(jnp.asarray(a), jnp.asarray(b), numbers)
        assert sums.dtype == jnp.int32
        np.testing.assert_array_equal(wide(sums), integers.dot(wide(a), wide(b), numbers))


@each_engine
@pytest.mark.parametrize("case", CONVS)
def test_a_convolution_is_the_exact_integer_one(name, case):
    lhs, rhs, params = CONVS[case].x, CONVS[case].w, CONVS[case].parameters
    for extreme in (False, True):
        a, b = codes(lhs, 0, extreme), codes(rhs, 1, extreme)
        sums = engines.build(name).conv(jnp.asarray(a), jnp.asarray(b), **params)
        assert sums.dtype == jnp.int32
        np.testing.assert_array_equal(wide(sums), integers.conv(wide(a), wide(b), **params))


@pytest.mark.parametrize("case", DOTS)
def test_engines_give_the_same_bits_compiled(case):
    lhs, rhs, numbers = DOTS[case]
    a, b = codes(lhs, 2), codes(rhs, 3)
    results = [jax.jit(lambda a, b, n=name: engines.build(n).dot(a, b, numbers))(a, b) for name in engines.names()]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@pytest.mark.parametrize("rows", slow_after(1, [1, 2, 3]))
def test_a_few_rows_are_served_as_they_were_simulated(rows):
    keys = jax.random.split(jax.random.key(rows), 3)
    params = [{"w": jax.random.normal(k, (320, 320)) / 18, "b": jax.random.normal(k, (320,))} for k in keys[:2]]
    x = jax.random.normal(keys[2], (64, 5, 320))

    def net(params, x):
        x = x[:, 0]
        for layer in params:
            x = jax.nn.gelu(x @ layer["w"] + layer["b"], approximate=False)
        return x

    q = qat.quantize(net, qat.recipe("w8a8"))
    state = q.calibrate(params, [x])
    few = x[:rows]
    int8 = q.convert(params, state, few)
    np.testing.assert_array_equal(q.serve(int8, few), q.simulate(params, state, few))
    np.testing.assert_array_equal(q.serve(int8, few), q.serve(int8, x)[:rows])


@each_engine
def test_engines_can_be_vmapped(name):
    engine, numbers = engines.build(name), (((1,), (0,)), ((), ()))
    a, b = codes((3, 4, 16), 0), codes((3, 16, 5), 1)
    mapped = jax.vmap(lambda a, b: engine.dot(a, b, numbers))(a, b)
    np.testing.assert_array_equal(wide(mapped), wide(a) @ wide(b))


@each_engine
def test_no_warning_escapes(name):
    engine, params = engines.build(name), CONVS["valid"].parameters
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jax.jit(lambda a, b: engine.dot(a, b, (((1,), (0,)), ((), ())))).lower(codes((4, 8), 0), codes((8, 4), 1))
        jax.jit(lambda a, b: engine.conv(a, b, **params)).lower(codes((2, 7, 7, 16), 0), codes((3, 3, 16, 5), 1))
    assert caught == []


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_only_its_engine_imports_aqt():
    package = Path(qat.__file__).parent
    users = [path.relative_to(package).as_posix() for path in sorted(package.rglob("*.py"))
             if any(name.split(".")[0] == "aqt" for name in imported(path))]  # fmt: skip
    assert users == ["engines/aqt.py"]


def test_an_unknown_engine_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"Unknown engine 'agt'. Known: aqt, integer\b.* Did you mean 'aqt'\?"):
        engines.build("agt")
