"""Quantized sites: QuantizeLinear and DequantizeLinear around products, and look-ups in integer tables."""

import math
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np

from qat.core.operands import ActivationOperand, WeightOperand
from qat.core.tensors import contracted_axes
from qat.export.onnx.context import CodeTensor, Context, SiteOutputs
from qat.export.onnx.contractions import Integers, Side, addition, conv, dot, float_side, undilated
from qat.export.onnx.dims import is_static
from qat.export.onnx.indexing import gather_rows
from qat.export.onnx.repeats import moved, own_weight, unrepeated
from qat.export.onnx.values import Value
from qat.numerics import WITH_ZERO_POINT

FOUR_BIT_OPSET = 21
BLOCKS_OPSET = 21
FOUR_BITS = (
    "Weights of up to 4 bits are INT4. ONNX Runtime may round the activations that they multiply to 8 bits: set "
    "session.qdq_matmulnbits_accuracy_level=1 there to compute in float32."
)


def write_site(ctx: Context, site: Any, eqn: Any, args: list[Value]) -> Value:
    """The result of a quantized site."""
    c = site.contraction
    codes: list[CodeTensor | None] = [None, None]
    if c.op == "embedding":
        return _look_up(ctx, site, eqn, args)
    if c.op == "conv":
        args = [*args]
        args[0], eqn = undilated(ctx, args[0], eqn)
    weight_only = not any(isinstance(o, ActivationOperand) for o in site.operands)
    sides = []
    for side, (operand, x) in enumerate(zip(site.operands, args, strict=False)):
        if isinstance(operand, WeightOperand):
            sides.append(_weight(ctx, operand, codes, side, weight_only))
        elif isinstance(operand, ActivationOperand):
            dynamic = ctx.operands[operand.key].grid is None
            sides.append((_dynamic if dynamic else _activation)(ctx, site, side, x, codes))
        else:
            sides.append(float_side(ctx, x))
    if any(side.integers is None for side in sides):
        sides = [replace(side, integers=None) for side in sides]
    out = {"conv": conv, "add": addition}.get(c.op, dot)(ctx, sides, eqn)
    _record(ctx, c, codes, out)
    return out


def _record(ctx: Context, c: Any, codes: list[CodeTensor | None], out: Value) -> None:
    """Keep the names of the site's tensors; those inside a subgraph cannot be looked at."""
    if ctx.graph.parent is not None or out.name is None:
        return
    maker = ctx.graph.producer(out.name)
    if maker is not None and maker.op == "Reshape":
        maker = ctx.graph.producer(maker.inputs[0]) or maker
    name = out.name if maker is None else maker.output
    passes = "".join(f"@{i}" for i in ctx.iterations)
    ctx.sites[c.id + passes] = SiteOutputs(tuple(codes), name, op="" if maker is None else maker.op)


def _activation(ctx: Context, site: Any, side: int, x: Value, codes: list[Any]) -> Side:
    """An activation of static range, as unsigned 8-bit codes. Fewer bits are the lowest codes, cut at the top."""
    grid = ctx.operands[site.operands[side].key].grid
    if grid.odd:
        raise ValueError(
            f"ONNX has no operator that rounds to odd codes, as grid='midrise' needs for the activation "
            f"{site.operands[side].key!r}. Give its rule another grid; weights may stay on it."
        )
    scale, low, high = (np.asarray(n).reshape(()) for n in (grid.scale, grid.qmin, grid.qmax))
    zero = 0 if grid.zero_point is None else int(np.asarray(grid.zero_point).reshape(()))
    offset = -int(low)

    def place(order: tuple[int, ...], shape: tuple[Any, ...] | None) -> str:
        name = ctx.full(x, order)
        name = name if shape is None else ctx.placing.reshape(name, shape)
        how = (ctx.number(scale, np.float32), ctx.number(zero + offset, np.uint8))
        repeated, moves = unrepeated(ctx.graph, name)
        q = ctx.op("QuantizeLinear", repeated, *how)
        if int(high) + offset < 255:
            q = ctx.op("Clip", q, None, ctx.number(int(high) + offset, np.uint8))
        q = moved(ctx.graph, q, moves)
        codes[side] = CodeTensor(q, offset, order)
        return ctx.op("DequantizeLinear", q, *how)

    return Side(x.shape, place, order=x.order, scales=lambda order, shape: np.asarray(scale, np.float32))


def _dynamic(ctx: Context, site: Any, side: int, x: Value, codes: list[Any]) -> Side:
    """An activation whose scale is that of its own values: one for all, or one for each row that is summed."""
    operand, c = site.operands[side], site.contraction
    low, high = (int(np.asarray(n).reshape(-1)[0]) for n in ctx.operands[operand.key].codes)
    per_row = operand.spec.per == "token"
    summed = set(contracted_axes(c, side)) if per_row else set(range(len(x.shape)))
    offset = -low if side == 0 else 0
    kind = np.uint8 if side == 0 else np.int8

    def quantized(order: tuple[int, ...], shape: tuple[Any, ...] | None) -> tuple[str, str, str | None]:
        """Codes as float, scale and zero point."""
        name = ctx.full(x, order)
        name = name if shape is None else ctx.placing.reshape(name, shape)
        rank = len(order if shape is None else shape)
        axes = _reduced_axes(order, shape, summed, side, rank) if per_row else list(range(rank))
        scale, zero = _range(ctx, name, axes, operand.spec.grid, (low, high))
        steps = ctx.op("Mul", name, ctx.op("Div", ctx.number(1, np.float32), scale))
        bounds = [ctx.number(n, np.float32) for n in (low, high)]
        if zero is None:
            return ctx.op("Round", ctx.op("Clip", steps, *bounds)), scale, None
        return ctx.op("Clip", ctx.op("Add", ctx.op("Round", steps), zero), *bounds), scale, zero

    def place(order: tuple[int, ...], shape: tuple[Any, ...] | None) -> str:
        q, scale, zero = quantized(order, shape)
        codes[side] = CodeTensor(q, 0, order)
        return ctx.op("Mul", q if zero is None else ctx.op("Sub", q, zero), scale)

    def integers(order: tuple[int, ...], shape: tuple[Any, ...] | None) -> Integers:
        q, scale, _ = quantized(order, shape)
        shifted = ctx.op("Add", q, ctx.number(offset, np.float32)) if offset else q
        name = ctx.graph.cast(shifted, kind)
        codes[side] = CodeTensor(name, offset, order)
        return name, ctx.number(offset, kind), scale

    return Side(x.shape, place, integers=integers if operand.spec.grid not in WITH_ZERO_POINT else None)


def _reduced_axes(order: tuple[int, ...], shape: Any, summed: set[int], side: int, rank: int) -> list[int]:
    """The axes of a placed tensor over which a row's range is taken: its last or, on the right, its last but one."""
    if shape is None:
        return [at for at, i in enumerate(order) if i in summed]
    return [rank - 1 if side == 0 or order[-1] in summed else rank - 2]


def _range(ctx: Context, x: str, axes: list[int], grid: str, codes: tuple[int, int]) -> tuple[str, str | None]:
    """Scale and zero point (as float) of values, as `qat.numerics` computes them."""
    zero, low, high = ctx.number(0, np.float32), codes[0], codes[1]
    top = ctx.op("Max", ctx.graph.reduce("ReduceMax", x, axes), zero)
    bottom = zero if grid == "unsigned" else ctx.op("Min", ctx.graph.reduce("ReduceMin", x, axes), zero)
    reciprocal = ctx.number(np.float32(1) / np.float32(high if grid == "symmetric" else high - low), np.float32)
    if grid == "symmetric":
        bound = ctx.op("Mul", ctx.op("Max", ctx.op("Neg", bottom), top), reciprocal)
    else:
        bound = ctx.op("Mul", ctx.op("Sub", top, bottom), reciprocal)
    tiny = ctx.op("LessOrEqual", bound, ctx.number(1e-30, np.float32))
    scale = ctx.op("Where", tiny, ctx.number(1, np.float32), bound)
    if grid == "symmetric":
        return scale, None
    return scale, ctx.op("Sub", ctx.number(low, np.float32), ctx.op("Round", ctx.op("Div", bottom, scale)))


def _weight(ctx: Context, operand: WeightOperand, codes: list[Any], side: int, weight_only: bool) -> Side:
    """A weight as signed codes with a scale for each channel or group."""
    stored = ctx.operands[operand.key]
    arrays = [np.asarray(stored.codes), np.asarray(stored.scale)]
    zero = None if stored.zero_point is None else np.asarray(stored.zero_point)
    perm = operand.perm
    q, scale = (a.transpose(perm) if a.ndim else a for a in arrays)
    zero = zero.transpose(perm) if zero is not None and zero.ndim else zero
    narrow = weight_only and ctx.bits.get(operand.key, 8) <= 4 and ctx.opset >= FOUR_BIT_OPSET
    if narrow:
        ctx.graph.note(FOUR_BITS)

    def placed(x: np.ndarray, order: tuple[int, ...], shape: Any) -> np.ndarray:
        if x.ndim == 0:
            return x
        x = x.transpose(order)
        return x if shape is None else _merged(x, [q.shape[i] for i in order], shape)

    def place(order: tuple[int, ...], shape: tuple[Any, ...] | None) -> str:
        offsets = None if zero is None else placed(zero, order, shape)
        whole = placed(q, order, shape).astype(ml_dtypes.int4 if narrow else np.int8)
        name, kind = own_weight(ctx.graph, whole)
        codes[side] = CodeTensor(name, 0, order)
        return _dequantized(ctx, name, whole.astype(kind), placed(scale, order, shape), offsets)

    def integers(order: tuple[int, ...], shape: tuple[Any, ...] | None) -> Integers:
        name, _ = own_weight(ctx.graph, placed(q, order, shape))
        codes[side] = CodeTensor(name, 0, order)
        return name, None, ctx.number(placed(scale, order, shape), np.float32)

    plain = zero is None and _is_per_channel(scale, q)
    return Side(
        q.shape,
        place,
        fixed=True,
        scales=(lambda order, shape: placed(scale, order, shape)) if plain else None,
        integers=integers if plain else None,
    )


def _merged(x: np.ndarray, lengths: list[int], shape: tuple[Any, ...]) -> np.ndarray:
    """Codes, or scales with fewer entries on some axes, reshaped as a tensor of these lengths is."""
    if list(x.shape) == lengths or math.prod(x.shape) == math.prod(lengths):
        return x.reshape(shape)
    # Axes of one stretch of the result are merged: where all of them are whole or all have fewer entries, so are these.
    sizes, at = [], 0
    for n in shape:
        have = want = 1
        start = at
        while at < len(lengths) and (want < n or (n == 1 and at == start and lengths[at] == 1)):
            have, want, at = have * x.shape[at], want * lengths[at], at + 1
        part = x.shape[start:at]
        if any(m not in (1, k) for m, k in zip(part, lengths[start:at], strict=True)) and len(part) > 1:
            return np.repeat(x, 1).reshape(-1)  # refused by its shape where it is used
        if have not in (1, want) and len(part) > 1:
            grown = [k if any(m != 1 for m in part) else 1 for k in lengths[start:at]]
            x = np.broadcast_to(x, (*x.shape[:start], *grown, *x.shape[at:]))
            have = want
        sizes.append(have)
    return x.reshape(sizes)


def _is_per_channel(scale: np.ndarray, codes: np.ndarray) -> bool:
    return scale.ndim == 0 or all(m in (1, n) for m, n in zip(scale.shape, codes.shape, strict=True))


def _dequantized(ctx: Context, name: str, q: np.ndarray, scale: np.ndarray, zero: Any) -> str:
    """The float values of a weight's codes, which the tensor `name` holds."""
    long = [i for i, n in enumerate(scale.shape) if n > 1]
    blocks = [i for i in long if scale.shape[i] != q.shape[i]]
    if blocks and (ctx.opset < BLOCKS_OPSET or len(blocks) > 1 or not _is_full(scale, q, blocks[0])):
        return _by_arithmetic(ctx, name, q, scale, zero)
    if not blocks and len(long) > 1:
        return _by_arithmetic(ctx, name, q, scale, zero)
    axis = blocks[0] if blocks else long[0] if long else 0
    shaped = scale if blocks else scale.reshape(-1) if long else scale.reshape(())
    # A zero point for each scale and of this weight alone, though all are zero: ONNX Runtime needs that to fuse, and
    # where it makes weights unsigned it replaces both under names that no other weight may have.
    zeros = np.broadcast_to(0 if zero is None else zero, scale.shape).reshape(shaped.shape).astype(q.dtype)
    inputs = [name, ctx.number(shaped, np.float32), ctx.graph.constant(zeros, owner=name)]
    more = {"block_size": q.shape[axis] // scale.shape[axis]} if blocks else {}
    return ctx.op("DequantizeLinear", *inputs, **({"axis": axis} if shaped.ndim else {}), **more)


def _is_full(scale: np.ndarray, q: np.ndarray, blocked: int) -> bool:
    return all(scale.shape[i] == n for i, n in enumerate(q.shape) if i != blocked)


def _by_arithmetic(ctx: Context, name: str, q: np.ndarray, scale: np.ndarray, zero: Any) -> str:
    """Float values of codes whose scales no DequantizeLinear takes: the axes of groups are split for it."""
    split = [k for m, n in zip(scale.shape, q.shape, strict=True) for k in ((m, n // m) if m not in (1, n) else (n,))]
    spread = [k for m, n in zip(scale.shape, q.shape, strict=True) for k in ((m, 1) if m not in (1, n) else (m,))]
    value = ctx.op("DequantizeLinear", name, ctx.number(1, np.float32))
    value = ctx.placing.reshape(value, split) if split != list(q.shape) else value
    if zero is not None:
        value = ctx.op("Sub", value, ctx.number(np.broadcast_to(zero, scale.shape).reshape(spread), np.float32))
    value = ctx.op("Mul", value, ctx.number(scale.reshape(spread), np.float32))
    return ctx.placing.reshape(value, q.shape) if split != list(q.shape) else value


def _look_up(ctx: Context, site: Any, eqn: Any, args: list[Value]) -> Value:
    """Rows of an integer table, dequantized after the look-up."""
    operand = site.operands[0]
    stored = ctx.operands[operand.key]
    perm = operand.perm
    q, scale = (np.asarray(a).transpose(perm) if np.ndim(a) else np.asarray(a) for a in (stored.codes, stored.scale))
    table = ctx.graph.constant(q, "table")
    rows, order = gather_rows(ctx, table, q.shape, args[1], eqn)
    zero = None if stored.zero_point is None else np.asarray(stored.zero_point)
    number = ctx.graph.cast(rows, np.float32)
    if zero is not None:
        zero = (zero.transpose(perm) if zero.ndim else zero).astype(np.float32)
        number = ctx.op("Sub", number, _of_rows(ctx, zero, q, args[1], eqn))
    if scale.size == 1:
        inputs = [ctx.number(scale.reshape(()), np.float32), ctx.number(0, np.int8)]
        value = ctx.op("DequantizeLinear", rows, *inputs) if zero is None else ctx.op("Mul", number, inputs[0])
    else:
        value = ctx.op("Mul", number, _of_rows(ctx, scale, q, args[1], eqn))
    out = ctx.result(value, eqn, order)
    _record(ctx, site.contraction, [CodeTensor(rows, 0, order)], out)
    return out


def _of_rows(ctx: Context, x: np.ndarray, q: np.ndarray, indices: Value, eqn: Any) -> str:
    """A table's scales or zero points at the rows that are looked up."""
    if x.size == 1:
        return ctx.number(x.reshape(()), np.float32)
    assert is_static(x.shape) and x.ndim == q.ndim
    rows = eqn.params["dimension_numbers"].collapsed_slice_dims
    x = np.broadcast_to(x, [n if i in rows else m for i, (n, m) in enumerate(zip(q.shape, x.shape, strict=True))])
    return gather_rows(ctx, ctx.graph.constant(x.astype(np.float32)), x.shape, indices, eqn)[0]
