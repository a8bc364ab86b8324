"""Results of the sites that multiply nothing: look-ups and additions."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qat.core.jaxpr import Contraction
from qat.numerics import QTensor, dequantize

QuantizedOperand = QTensor | Array
"""An operand in codes; an array where only the other operand is quantized."""


def look_up(c: Contraction, table: QuantizedOperand, indices: QuantizedOperand) -> Float[Array, "..."]:
    """Rows of a quantized table in float32; an index out of range gives the same as in the float look-up."""
    assert isinstance(table, QTensor)
    assert isinstance(indices, jax.Array)
    p, rows = c.params, c.params["dimension_numbers"].collapsed_slice_dims

    def gather(x: Array, fill: Any) -> Array:
        sizes = tuple(min(n, have) for n, have in zip(p["slice_sizes"], x.shape, strict=True))
        return jax.lax.gather(
            x,
            indices,
            p["dimension_numbers"],
            sizes,
            unique_indices=p["unique_indices"],
            indices_are_sorted=p["indices_are_sorted"],
            mode=p["mode"],
            fill_value=fill,
        )

    def by_row(x: Array) -> Array:
        return jnp.broadcast_to(x, [table.codes.shape[i] if i in rows else 1 for i in range(table.codes.ndim)])

    codes = gather(table.codes, 1).astype(
        jnp.int32
    )  # a row out of range gets code 1, so that its value is the scale it is filled with
    if table.zero_point is not None:
        codes = codes - gather(by_row(table.zero_point), 0)
    return codes.astype(jnp.float32) * gather(by_row(table.scale), p["fill_value"])


def add(lhs: QuantizedOperand, rhs: QuantizedOperand) -> Float[Array, "..."]:
    """The sum of two dequantized operands in float32."""
    assert isinstance(lhs, QTensor)
    assert isinstance(rhs, QTensor)
    # A scale computed in the same program must not be multiplied into the codes in another order.
    scales = jax.lax.optimization_barrier((lhs.scale, rhs.scale))
    lhs, rhs = (replace(q, scale=scale) for q, scale in zip((lhs, rhs), scales, strict=True))
    return dequantize(lhs) + dequantize(rhs)
