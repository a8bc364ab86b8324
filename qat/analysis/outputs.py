"""The error of the quantized function as a whole."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from qat.analysis.seen import Energy
from qat.analysis.tally import Noise, add_noise
from qat.batches import stream
from qat.state import QuantState
from qat.transform import Quantized


def output_error(q: Quantized, params: Any, state: QuantState, batches: Iterable[Any]) -> float | None:
    """Energy of the float function's outputs on all batches over that of the quantized function's error, in dB.

    All outputs of floating type count together, and of these the numbers that are finite in float. None where the error
    is zero or there is no such number.
    """
    q.check(state)
    total = Energy()
    for inputs in stream(batches):
        total += _errors(q.program, params, state.bare, inputs)
    return total.sqnr_db


@partial(jax.jit, static_argnums=0)
def _errors(program: Any, params: Any, state: QuantState, inputs: tuple[Any, ...]) -> Noise:
    exact, total = program.fn(params, *inputs), Noise(jnp.zeros(()), jnp.zeros(()))
    simulated = program.simulate(params, state, *inputs)
    for x, hat in zip(jax.tree.leaves(exact), jax.tree.leaves(simulated), strict=True):
        if jnp.issubdtype(x.dtype, jnp.floating):
            counts = jnp.isfinite(x)
            total = add_noise(total, jnp.where(counts, x, 0), jnp.where(counts, hat, 0))
    return total
