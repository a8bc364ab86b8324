"""Lowerings of powers, roots, exponentials and error functions that ONNX has no operator for."""

from typing import Any

import numpy as np

from qat.export.onnx.context import Context
from qat.export.onnx.elementwise import elementwise, kind


@elementwise("rsqrt")
def _rsqrt(ctx: Context, eqn: Any, x: list[str]) -> str:
    return ctx.op("Div", ctx.number(1, kind(eqn)), ctx.op("Sqrt", *x))


@elementwise("square")
def _square(ctx: Context, eqn: Any, x: list[str]) -> str:
    return ctx.op("Mul", x[0], x[0])


@elementwise("one_minus_square")
def _one_minus_square(ctx: Context, eqn: Any, x: list[str]) -> str:
    return ctx.op("Sub", ctx.number(1, kind(eqn)), ctx.op("Mul", x[0], x[0]))


@elementwise("cbrt")
def _cbrt(ctx: Context, eqn: Any, x: list[str]) -> str:
    return ctx.op("Mul", ctx.op("Sign", *x), ctx.op("Pow", ctx.op("Abs", *x), ctx.number(1 / 3, kind(eqn))))


@elementwise("integer_pow")
def _integer_pow(ctx: Context, eqn: Any, x: list[str]) -> str:
    power = eqn.params["y"]
    if power < 0:
        return ctx.op("Div", ctx.number(1, kind(eqn)), _powered(ctx, x[0], -power, kind(eqn)))
    return _powered(ctx, x[0], power, kind(eqn))


def _powered(ctx: Context, x: str, power: int, dtype: np.dtype) -> str:
    if power == 0:
        return ctx.op("Add", ctx.op("Mul", x, ctx.number(0, dtype)), ctx.number(1, dtype))
    half = x if power < 4 else _powered(ctx, x, power // 2, dtype)
    if power == 1:
        return x
    square = ctx.op("Mul", half, half)
    return ctx.op("Mul", square, x) if power % 2 else square


@elementwise("exp2")
def _exp2(ctx: Context, eqn: Any, x: list[str]) -> str:
    return ctx.op("Exp", ctx.op("Mul", x[0], ctx.number(np.log(2), kind(eqn))))


@elementwise("expm1")
def _expm1(ctx: Context, eqn: Any, x: list[str]) -> str:
    # exp(x) - 1 = 2 t / (1 - t) with t = tanh(x / 2) keeps the digits of small results, and overflows for large ones.
    one, two = ctx.number(1, kind(eqn)), ctx.number(2, kind(eqn))
    t = ctx.op("Tanh", ctx.op("Div", x[0], two))
    small = ctx.op("Div", ctx.op("Mul", two, t), ctx.op("Sub", one, t))
    large = ctx.op("Sub", ctx.op("Exp", x[0]), one)
    return ctx.op("Where", ctx.op("Less", ctx.op("Abs", x[0]), one), small, large)


@elementwise("log1p")
def _log1p(ctx: Context, eqn: Any, x: list[str]) -> str:
    # log(u) * x / (u - 1) with u = 1 + x keeps the digits that rounding u loses (Higham 2002, section 1.14.1).
    one = ctx.number(1, kind(eqn))
    u = ctx.op("Add", x[0], one)
    rest = ctx.op("Sub", u, one)
    exact = ctx.op("Equal", rest, ctx.number(0, kind(eqn)))
    ratio = ctx.op("Div", x[0], ctx.op("Where", exact, one, rest))
    scaled = ctx.op("Mul", ctx.op("Log", u), ratio)
    large = ctx.op("Greater", x[0], ctx.number(1e7, kind(eqn)))  # where the ratio is 1, or not a number
    return ctx.op("Where", exact, x[0], ctx.op("Where", large, ctx.op("Log", u), scaled))


@elementwise("erfc")
def _erfc(ctx: Context, eqn: Any, x: list[str]) -> str:
    return ctx.op("Sub", ctx.number(1, kind(eqn)), ctx.op("Erf", *x))
