"""The integers that every site multiplies are the same when simulating and when serving: recorded by an engine."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import ZOO

import qat
from qat.engines import Engine, engines, integer

HEAVY = [pytest.param(name, marks=pytest.mark.slow) for name in ("gru", "bert_bf16", "scan_remat")]
MODELS = ["mobilenet", *HEAVY]
SEEN: list[tuple[tuple[int, ...], int]] = []


def _note(shape: tuple[int, ...], checksum) -> None:
    SEEN.append((shape, int(checksum)))


def _record(codes: jax.Array) -> None:
    place = jnp.arange(codes.size, dtype=jnp.uint32) * jnp.uint32(2654435761) + jnp.uint32(1)
    checksum = jnp.sum(codes.reshape(-1).astype(jnp.uint32) * place, dtype=jnp.uint32)
    jax.debug.callback(lambda c, shape=codes.shape: _note(shape, c), checksum)


@engines.register
def recording() -> Engine:
    """The integer engine, noting a checksum of each operand."""

    def dot(lhs, rhs, dimension_numbers):
        _record(lhs)
        _record(rhs)
        return integer.dot(lhs, rhs, dimension_numbers)

    def conv(lhs, rhs, **params):
        _record(lhs)
        _record(rhs)
        return integer.conv(lhs, rhs, **params)

    return Engine(dot, conv)


def _recorded(call) -> list[tuple[tuple[int, ...], int]]:
    SEEN.clear()
    jax.block_until_ready(call())
    jax.effects_barrier()
    return sorted(SEEN)


@pytest.mark.parametrize("name", MODELS)
def test_simulation_and_serving_multiply_the_same_integers_at_every_site(name):
    case = ZOO[name]()
    q = qat.quantize(case.fn, qat.recipe("w8a8"), engine="recording", serving="recording")
    length = 7 if case.length_varies else None
    example, other, third = case.inputs(2, None, 0), case.inputs(3, length, 1), case.inputs(3, length, 2)
    state = q.calibrate(case.params, [example])
    int8 = q.convert(case.params, state, *example)
    simulated = _recorded(lambda: q.simulate(case.params, state, *other))
    served = _recorded(lambda: q.serve(int8, *other))
    assert simulated
    assert simulated == served
    assert simulated != _recorded(lambda: q.simulate(case.params, state, *third))


def test_a_checksum_sees_one_changed_code():
    codes = jnp.zeros((4, 5), jnp.int8)
    assert _recorded(lambda: _record(codes)) != _recorded(lambda: _record(codes.at[2, 3].set(1)))
    assert np.array_equal(np.asarray(codes), np.zeros((4, 5)))
