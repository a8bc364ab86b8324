"""The quantized product of a site: integers in, one float rescale out, and its gradient.

Both operands are codes, or one of them is float (weight-only). With `x = (a - za) * sa` and `w = (b - zb) * sb`,
`sum(x * w) = sa * sb * (sum(a * b) - za * sum(b) - zb * sum(a) + n * za * zb)`, all integer up to the one rescale.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array

from qat.core.jaxpr import Contraction, bind
from qat.core.productless import QuantizedOperand, add, look_up
from qat.engines import Engine, conv_parameters
from qat.numerics import QTensor, dequantize, valued


@dataclass(frozen=True)
class Layout:
    """The axes of both operands in the product's result.

    For each side `order` has the axes that are not contracted, in the order of the result, `summed` those that are, and
    `shape(side, lengths)` is the shape in which axes of these lengths broadcast against the result.
    """

    order: tuple[tuple[int, ...], tuple[int, ...]]
    shape: Callable[[int, tuple[int, ...]], tuple[int, ...]]
    summed: tuple[tuple[int, ...], tuple[int, ...]]

    def place(self, side: int, value: Array) -> Array:
        """A value shaped as an operand, with ones on its contracted axes, made to broadcast against the result."""
        if value.ndim == 0:
            return value
        moved = value.transpose(*self.order[side], *self.summed[side])
        return moved.reshape(self.shape(side, moved.shape[: len(self.order[side])]))


def dot_layout(dimension_numbers: Any, ndims: tuple[int, int]) -> Layout:
    """`Layout` of a dot_general: batch axes, then the left operand's free axes, then the right one's."""
    summed, batch = dimension_numbers
    free = [tuple(i for i in range(n) if i not in (*s, *b)) for n, s, b in zip(ndims, summed, batch, strict=True)]

    def shape(side: int, lengths: tuple[int, ...]) -> tuple[int, ...]:
        n = len(batch[0])
        ones = (1,) * len(free[1 - side])
        return (*lengths, *ones) if side == 0 else (*lengths[:n], *ones, *lengths[n:])

    order = ((*batch[0], *free[0]), (*batch[1], *free[1]))
    return Layout(order, shape, (tuple(summed[0]), tuple(summed[1])))


def conv_layout(numbers: Any) -> Layout:
    """`Layout` of a convolution: the left operand's batch axis and the right one's output features remain."""
    ndim = len(numbers.out_spec)

    def shape(side: int, lengths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(lengths[0] if i == numbers.out_spec[side] else 1 for i in range(ndim))

    lhs, rhs = numbers.lhs_spec, numbers.rhs_spec
    return Layout(((lhs[0],), (rhs[0],)), shape, (tuple(lhs[1:]), tuple(rhs[1:])))


QuantizedOperands = tuple[QuantizedOperand, ...]


def forward(c: Contraction, engine: Engine, quantized_operands: QuantizedOperands, groups: int | None) -> Array:
    """The site's result from its operands: codes multiply as integers, sums become float by one rescale.

    No float arithmetic is wider than float32: a float64 result is a float32 one, cast.
    """
    if c.op == "embedding":
        return look_up(c, *quantized_operands).astype(c.out_dtype)
    if c.op == "add":
        return add(*quantized_operands).astype(c.out_dtype)
    quantized_operands = tuple(
        p.astype(jnp.float32) if isinstance(p, jax.Array) and p.dtype == jnp.float64 else p for p in quantized_operands
    )
    if c.op == "conv":
        sums, layout = _conv(c, engine, quantized_operands)
    else:
        numbers = c.params["dimension_numbers"]
        if groups is not None:
            quantized_operands, numbers = _grouped(quantized_operands, numbers, groups)
        sums, layout = _dot(engine, quantized_operands, numbers, c.params["precision"])
    scales = [layout.place(i, p.scale) for i, p in enumerate(quantized_operands) if isinstance(p, QTensor)]
    out = sums.astype(jnp.float32) * jax.lax.optimization_barrier(math.prod(scales[1:], start=scales[0]))
    return (out.sum(0) if groups is not None else out).astype(c.out_dtype)


def _dot(engine: Engine, operands: QuantizedOperands, numbers: Any, precision: Any) -> tuple[Array, Layout]:
    lhs, rhs = (p.codes if isinstance(p, QTensor) else p for p in operands)
    layout = dot_layout(numbers, (lhs.ndim, rhs.ndim))
    if all(isinstance(p, QTensor) for p in operands):
        sums = engine.dot(lhs, rhs, numbers)
    else:
        dtype = next(p.dtype for p in operands if not isinstance(p, QTensor))
        sums = jax.lax.dot_general(
            lhs.astype(dtype), rhs.astype(dtype), numbers, precision=precision, preferred_element_type=jnp.float32
        )
    length = math.prod(lhs.shape[i] for i in layout.summed[0])
    return sums - _offsets(operands, layout, lambda side: _totals(operands[side], layout.summed[side]), length), layout


def _conv(c: Contraction, engine: Engine, operands: QuantizedOperands) -> tuple[Array, Layout]:
    params, numbers = conv_parameters(c.params), c.params["dimension_numbers"]
    lhs, rhs = operands
    symbolic = not all(isinstance(n, int) for pair in params["padding"] for n in pair)  # which no convolution accepts
    if symbolic or (isinstance(lhs, QTensor) and lhs.zero_point is not None):
        lhs, params = _padded(lhs, params)
    layout, operands = conv_layout(numbers), (lhs, rhs)
    codes = [p.codes if isinstance(p, QTensor) else p for p in operands]
    if all(isinstance(p, QTensor) for p in operands):
        sums = engine.conv(*codes, **params)
    else:
        dtype = next(p.dtype for p in operands if not isinstance(p, QTensor))
        sums = jax.lax.conv_general_dilated(
            codes[0].astype(dtype),
            codes[1].astype(dtype),
            **params,
            precision=c.params["precision"],
            preferred_element_type=jnp.float32,
        )

    def totals(side: int) -> Array:
        return _totals(rhs, layout.summed[1]) if side == 1 else _windows(c, engine, operands, params)

    length = codes[1].size // codes[1].shape[numbers.rhs_spec[0]]
    return sums - _offsets(operands, layout, totals, length, conv=True), layout


def _offsets(
    operands: QuantizedOperands, layout: Layout, totals: Callable[[int], Array], length: int, conv: bool = False
):
    """The terms that the zero points add to the sums of codes; the integer 0 where every grid is symmetric."""
    zeros = [
        layout.place(i, p.zero_point) if isinstance(p, QTensor) and p.zero_point is not None else None
        for i, p in enumerate(operands)
    ]
    out: Any = 0
    if zeros[0] is not None:
        other = layout.place(1, totals(1))  # float where the other operand is
        out = out + jax.lax.optimization_barrier(zeros[0].astype(other.dtype) * other)
    if zeros[1] is not None:
        other = totals(0) if conv else layout.place(0, totals(0))
        out = out + zeros[1].astype(other.dtype) * other
    return out - length * zeros[0] * zeros[1] if zeros[0] is not None and zeros[1] is not None else out


def _totals(operand: QuantizedOperand, axes: tuple[int, ...]) -> Array:
    """Sums of an operand's codes over its contracted axes, which stay with length one."""
    if not isinstance(operand, QTensor):
        return jnp.sum(operand.astype(jnp.float32), axes, keepdims=True)
    if operand.totals is not None:
        return operand.totals

    def by_ones(codes: Array) -> Array:  # faster on a CPU than an integer reduction
        ones = jnp.ones([codes.shape[i] for i in axes], jnp.int8)
        numbers = ((axes, tuple(range(len(axes)))), ((), ()))
        return jax.lax.dot_general(codes, ones, numbers, preferred_element_type=jnp.int32)

    sums = jax.lax.platform_dependent(operand.codes, cpu=by_ones, default=lambda codes: jnp.sum(codes, axes, jnp.int32))
    return jnp.expand_dims(sums, axes)


def _windows(c: Contraction, engine: Engine, operands: QuantizedOperands, params: dict[str, Any]) -> Array:
    """Sums of the left operand's codes over each window of the convolution, in the result's layout."""
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    lhs, rhs = (p.codes if isinstance(p, QTensor) else p for p in operands)
    shape = [groups if i == numbers.rhs_spec[0] else n for i, n in enumerate(rhs.shape)]
    ones = jnp.ones(shape, lhs.dtype)
    if isinstance(operands[0], QTensor):
        sums = engine.conv(lhs, ones, **params)
    else:
        sums = jax.lax.conv_general_dilated(lhs, ones, **params, preferred_element_type=jnp.float32)
    return jnp.repeat(sums, rhs.shape[numbers.rhs_spec[0]] // groups, numbers.out_spec[1])


def _padded(lhs: QuantizedOperand, params: dict[str, Any]) -> tuple[QuantizedOperand, dict[str, Any]]:
    """The left operand padded and dilated with the code of zero, and the parameters of the convolution that remains."""
    spatial = params["dimension_numbers"].lhs_spec[2:]
    codes = lhs.codes if isinstance(lhs, QTensor) else lhs
    config = [(0, 0, 0)] * codes.ndim
    for axis, (low, high), dilation in zip(spatial, params["padding"], params["lhs_dilation"], strict=True):
        config[axis] = (low, high, dilation - 1)
    if all(c == (0, 0, 0) for c in config):
        return lhs, params
    done = {**params, "padding": ((0, 0),) * len(spatial), "lhs_dilation": (1,) * len(spatial)}
    zero = jnp.zeros((), codes.dtype)
    if not isinstance(lhs, QTensor):
        return jax.lax.pad(codes, zero, config), done
    if lhs.zero_point is not None and lhs.zero_point.ndim:
        inside = jax.lax.pad(jnp.ones(codes.shape, bool), False, config)
        filled = jnp.where(inside, jax.lax.pad(codes, zero, config), lhs.zero_point.astype(jnp.int8))
    else:
        filled = jax.lax.pad(codes, zero if lhs.zero_point is None else lhs.zero_point.astype(jnp.int8), config)
    return replace(lhs, codes=filled), done


def _grouped(operands: QuantizedOperands, numbers: Any, groups: int) -> tuple[QuantizedOperands, Any]:
    """Operands with the one contracted axis split into (groups, products), the groups a leading batch axis."""
    (lhs_axes, rhs_axes), (lhs_batch, rhs_batch) = numbers
    axes = (lhs_axes[0], rhs_axes[0])

    def split(x: Array, axis: int) -> Array:
        if x.ndim == 0:
            return x
        pieces = groups if x.shape[axis] > 1 else 1
        return x.reshape(*x.shape[:axis], pieces, x.shape[axis] // pieces, *x.shape[axis + 1 :])

    def moved(batch: tuple[int, ...], axis: int) -> tuple[int, ...]:
        return (axis, *(b + (b > axis) for b in batch))

    new = tuple(
        jax.tree.map(lambda x, a=axis: split(x, a), operand) for operand, axis in zip(operands, axes, strict=True)
    )
    return new, (((axes[0] + 1,), (axes[1] + 1,)), (moved(lhs_batch, axes[0]), moved(rhs_batch, axes[1])))


def product(
    c: Contraction,
    engine: Engine,
    float_operands: tuple[Array | None, ...],
    quantized_operands: QuantizedOperands,
    groups: int | None,
) -> Array:
    """`forward`, differentiable any number of times, in forward and reverse mode, with respect to `float_operands`: the
    fake-quantized values of the operands, each shaped as its quantized one.

    The gradient is that of fake quantization: the float product's, at the dequantized operands of the forward pass. The
    float operands themselves are not read, so a compiled forward pass does not compute them.
    """

    @jax.custom_jvp
    def run(float_operands: tuple[Array | None, ...], quantized_operands: QuantizedOperands) -> Array:
        return forward(c, engine, quantized_operands, groups)

    def tangent(primals: Any, tangents: Any):
        float_operands, quantized_operands = primals
        pairs = zip(float_operands, quantized_operands, strict=True)
        at = [floats if floats is None else _dequantized(floats, operand) for floats, operand in pairs]
        moves = {i: t for i, t in enumerate(tangents[0]) if t is not None and not isinstance(t, SymbolicZero)}
        terms = [_directional(c, quantized_operands, at, side=side, by=t) for side, t in moves.items()]
        out = run(float_operands, quantized_operands)
        return out, sum(terms[1:], start=terms[0]) if terms else jnp.zeros_like(out)

    run.defjvp(tangent, symbolic_zeros=True)
    return run(float_operands, jax.lax.stop_gradient(quantized_operands))


def _dequantized(floats: Array, operand: QuantizedOperand) -> Array:
    """The value that the forward pass multiplied, with the derivatives of the float operand."""
    return valued(dequantize(operand, floats.dtype), floats) if isinstance(operand, QTensor) else floats


def _directional(c: Contraction, operands: QuantizedOperands, at: list[Any], side: int, by: Array) -> Array:
    """The derivative of the float result at the values `at`, along the change `by` of one operand: the product is
    linear in each."""
    if c.op == "add":
        return by.astype(c.out_dtype)
    if c.op == "embedding":
        return jax.jvp(lambda table: bind(c.equation, [table, operands[1]])[0], (at[0],), (by,))[1]
    return bind(c.equation, [by if i == side else x for i, x in enumerate(at)])[0]
