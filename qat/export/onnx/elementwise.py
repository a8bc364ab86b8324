"""Lowerings of primitives that compute each element from the elements at its place."""

from collections.abc import Callable
from typing import Any

import numpy as np

from qat.export.onnx.context import Context, UnsupportedError, lowering
from qat.export.onnx.graph import onnx_dtype
from qat.export.onnx.values import Value, laid_out, short_axes

UNARY = {
    "neg": "Neg",
    "abs": "Abs",
    "exp": "Exp",
    "log": "Log",
    "tanh": "Tanh",
    "sin": "Sin",
    "cos": "Cos",
    "tan": "Tan",
    "asin": "Asin",
    "acos": "Acos",
    "atan": "Atan",
    "sinh": "Sinh",
    "cosh": "Cosh",
    "asinh": "Asinh",
    "acosh": "Acosh",
    "atanh": "Atanh",
    "sqrt": "Sqrt",
    "floor": "Floor",
    "ceil": "Ceil",
    "sign": "Sign",
    "erf": "Erf",
    "logistic": "Sigmoid",
}
BINARY = {
    "add": "Add",
    "add_any": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "max": "Max",
    "min": "Min",
    "pow": "Pow",
    "eq": "Equal",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
}
LOGICAL = {"and": "And", "or": "Or", "xor": "Xor"}
BITWISE_OPSET = 18
IDENTITIES = (
    "copy",
    "copy_p",
    "name",
    "optimization_barrier",
    "pvary",
    "pcast",
    "reduce_precision",
    "reshard",
    "sharding_constraint",
    "stop_gradient",
)
ELEMENTWISE: set[str] = set()


def elementwise(*names: str) -> Callable[[Any], Any]:
    """Register `write(context, equation, tensors) -> tensor` for primitives whose operands broadcast."""
    ELEMENTWISE.update(names)

    def register(write: Callable[[Context, Any, list[str]], str]) -> Any:
        def lower(ctx: Context, eqn: Any, args: list[Value]) -> Value:
            tensors, order, ones = together(ctx, args)
            aval = eqn.outvars[0].aval
            out = laid_out(write(ctx, eqn, tensors), aval.shape, aval.dtype, order)
            return Value(out.shape, out.dtype, out.name, axes=out.axes, ones=ones)

        lowering(*names)(lower)
        return write

    return register


def together(ctx: Context, args: list[Value]) -> tuple[list[str], tuple[int, ...], frozenset[int]]:
    """Tensors of values in one layout, that of the first that is not constant and has axes; the order of their logical
    axes; and the axes along which all of them repeat, which the result has with length one."""
    rank = max(len(a.shape) for a in args)
    ranked = [a for a in args if len(a.shape) == rank]
    whole = sorted((a for a in ranked if not a.known), key=lambda a: len(a.ones))
    order = whole[0].order if whole else tuple(range(rank))
    tensors = [ctx.placing.compact(a, order if len(a.shape) == rank else None) for a in args]
    return tensors, order, frozenset.intersection(*(short_axes(a) for a in ranked))


def _simple(table: dict[str, str]) -> None:
    for primitive, op in table.items():

        def write(ctx: Context, eqn: Any, x: list[str], op: str = op) -> str:
            return ctx.op(op, *x)

        if primitive not in ("eq", "max", "min"):
            elementwise(primitive)(write)


_simple(UNARY)
_simple(BINARY)


def kind(eqn: Any, operand: int = 0) -> np.dtype:
    """The dtype that an operand has in the graph."""
    return onnx_dtype(eqn.invars[operand].aval.dtype)


def _scalar(ctx: Context, name: str) -> float | None:
    array = ctx.graph.constant_of(name)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


@elementwise("eq")
def _eq(ctx: Context, eqn: Any, x: list[str]) -> str:
    return ctx.op("Equal", *x)


@elementwise("ne")
def _ne(ctx: Context, eqn: Any, x: list[str]) -> str:
    return ctx.op("Xor", *x) if kind(eqn) == np.bool_ else ctx.op("Not", ctx.op("Equal", *x))


@elementwise("max")
def _max(ctx: Context, eqn: Any, x: list[str]) -> str:
    if kind(eqn) == np.bool_:
        return ctx.op("Or", *x)
    numbers = [_scalar(ctx, name) for name in x]
    for at, number in enumerate(numbers):
        if number is not None and number == -np.inf:
            return x[1 - at]
        if number == 0 and kind(eqn) == np.float32:
            return ctx.op("Relu", x[1 - at])
    return ctx.op("Max", *x)


@elementwise("min")
def _min(ctx: Context, eqn: Any, x: list[str]) -> str:
    if kind(eqn) == np.bool_:
        return ctx.op("And", *x)
    for at, name in enumerate(x):
        maker = ctx.graph.producer(x[1 - at])
        if (top := _scalar(ctx, name)) is not None and maker is not None and maker.op == "Relu" and top > 0:
            bounds = [ctx.number(n, np.float32) for n in (0, top)]
            return ctx.op("Clip", maker.inputs[0], *bounds)
    return ctx.op("Min", *x)


@elementwise("and", "or", "xor")
def _logical(ctx: Context, eqn: Any, x: list[str]) -> str:
    op = LOGICAL[eqn.primitive.name]
    if kind(eqn) == np.bool_:
        return ctx.op(op, *x)
    if ctx.opset < BITWISE_OPSET:
        raise UnsupportedError(f"of integers, which needs opset {BITWISE_OPSET}")
    return ctx.op(f"Bitwise{op}", *x)


@elementwise("not")
def _not(ctx: Context, eqn: Any, x: list[str]) -> str:
    if kind(eqn) == np.bool_:
        return ctx.op("Not", *x)
    if ctx.opset < BITWISE_OPSET:
        raise UnsupportedError(f"of integers, which needs opset {BITWISE_OPSET}")
    return ctx.op("BitwiseNot", *x)


@elementwise("shift_right_logical", "shift_left")
def _shift(ctx: Context, eqn: Any, x: list[str]) -> str:
    if kind(eqn).kind != "u":
        raise UnsupportedError(f"of {kind(eqn)}")
    direction = "LEFT" if eqn.primitive.name == "shift_left" else "RIGHT"
    return ctx.op("BitShift", *x, direction=direction)


@elementwise("rem")
def _rem(ctx: Context, eqn: Any, x: list[str]) -> str:
    return ctx.op("Mod", *x, fmod=1)


@elementwise("round")
def _round(ctx: Context, eqn: Any, x: list[str]) -> str:
    if eqn.params["rounding_method"].value == 1:  # to nearest, ties to even
        return ctx.op("Round", *x)
    half = ctx.op("Floor", ctx.op("Add", ctx.op("Abs", *x), ctx.number(0.5, kind(eqn))))
    return ctx.op("Mul", ctx.op("Sign", *x), half)


@elementwise("is_finite")
def _is_finite(ctx: Context, eqn: Any, x: list[str]) -> str:
    return ctx.op("Not", ctx.op("Or", ctx.op("IsNaN", *x), ctx.op("IsInf", *x)))


@elementwise("clamp")
def _clamp(ctx: Context, eqn: Any, x: list[str]) -> str:
    low, value, high = x
    if _scalar(ctx, low) is not None and _scalar(ctx, high) is not None and kind(eqn).kind == "f":
        bounds = [ctx.number(_scalar(ctx, n), kind(eqn)) for n in (low, high)]
        return ctx.op("Clip", value, *bounds)
    return ctx.op("Min", ctx.op("Max", value, low), high)


@elementwise("select_n")
def _select(ctx: Context, eqn: Any, x: list[str]) -> str:
    which, *cases = x
    if kind(eqn) == np.bool_:
        return chosen(ctx, which, cases[1], cases[0], kind(eqn, 1))
    out = cases[-1]
    for i in reversed(range(len(cases) - 1)):
        out = chosen(ctx, ctx.op("LessOrEqual", which, ctx.number(i, kind(eqn))), cases[i], out, kind(eqn, 1))
    return out


def chosen(ctx: Context, which: str, yes: str, no: str, dtype: np.dtype) -> str:
    """Elements of one tensor where a condition holds, of another elsewhere; of every dtype, where runtimes know few."""
    if dtype == np.bool_:
        return ctx.op("Or", ctx.op("And", which, yes), ctx.op("And", ctx.op("Not", which), no))
    if dtype.name in ("float32", "float64", "int32", "int64", "uint8"):
        return ctx.op("Where", which, yes, no)
    wide = ctx.op("Where", which, *[ctx.graph.cast(case, np.int64) for case in (yes, no)])
    return ctx.graph.cast(wide, dtype)


@elementwise("convert_element_type")
def _convert(ctx: Context, eqn: Any, x: list[str]) -> str:
    have, want = kind(eqn), onnx_dtype(eqn.outvars[0].aval.dtype)
    return x[0] if have == want else ctx.graph.cast(x[0], want)


@elementwise(*IDENTITIES)
def _identity(ctx: Context, eqn: Any, x: list[str]) -> str:
    return x[0]
