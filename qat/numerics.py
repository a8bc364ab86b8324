"""Integer grids (`QParams`), tensors of integer codes (`QTensor`), and the functions between float and integer.

Codes of every width are stored as int8 in [-128, 127]. An unsigned or affine grid of n bits is stored shifted by
-2**(n-1), so that a ReLU output keeps all 2**n levels and still feeds a signed integer product.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8, Int32

GRIDS = ("symmetric", "affine", "unsigned", "midrise")
WITH_ZERO_POINT = ("affine", "unsigned")
MIN_BITS, MAX_BITS = 2, 8
MIDRISE_BITS = (1, 7)  # the fewest and the most, whose codes still fit int8
ANY_BITS = 4  # stands for all widths of any grid where bits are data
ROUNDING = 2.0**-12  # of a step: more than the float32 rounding error of a number of at most 255 steps
ROUNDER = 1.5 * 2.0**23  # added to a small float32 it leaves the nearest integer, ties to even, in the lowest bits
ROUNDER_BITS = 0x4B400000  # the bits of ROUNDER; subtracting them is faster on a CPU than rounding and converting
SMALLEST_SCALE = 1e-30  # its reciprocal is finite in float32; an all-zero tensor never divides by zero
LARGEST_SCALE = 2.0**126  # its reciprocal is a normal number; a CPU takes subnormal ones for zero


def code_range(bits: int, grid: str) -> tuple[int, int]:
    """Smallest and largest code of a grid. A symmetric grid is narrow (-127..127 at 8 bits), a midrise one has the odd
    codes (-3, -1, 1, 3 at 2 bits: levels at half integers of a double step, none at zero; Liu et al. 2025, arXiv
    2502.02631), the others use every code.

    Raises `ValueError` for bits outside [2, 8], on a midrise grid [1, 7], or an unknown grid.
    """
    if grid not in GRIDS:
        raise ValueError(f"`grid` must be one of {', '.join(GRIDS)}, got {grid!r}.")
    least, most = MIDRISE_BITS if grid == "midrise" else (MIN_BITS, MAX_BITS)
    if not (isinstance(bits, int) and least <= bits <= most):
        where = " on a midrise grid" if grid == "midrise" else ""
        binary = " One bit needs grid='midrise'." if bits == 1 else ""
        raise ValueError(
            f"`bits` must be an integer in [{least}, {most}]{where}, got {bits!r}.{binary} "
            "Leave the spec out (None) to keep the tensor in float."
        )
    if grid == "midrise":
        return 1 - 2**bits, 2**bits - 1
    high = 2 ** (bits - 1) - 1
    return (-high if grid == "symmetric" else -high - 1), high


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class QParams:
    """The grid of one tensor: `value = (code - zero_point) * scale`, codes in [qmin, qmax].

    `scale` is positive and broadcasts against the tensor, except along a grouped axis, where it has one entry per
    group; `zero_point` is None on a symmetric or midrise grid, else shaped as `scale`. All are arrays: changing them
    recompiles nothing. `odd` says that only odd codes are on the grid.
    """

    scale: Float[Array, "..."]
    zero_point: Int32[Array, "..."] | None
    qmin: Int32[Array, "..."]
    qmax: Int32[Array, "..."]
    odd: bool = field(default=False, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class QTensor:
    """Integer codes with their scale and zero point; `bits` says how many bits a code needs on disk, of which
    one is spared where all codes are `odd`.

    `totals` are the sums of the codes over the axes that a product contracts, which stay with length one or the number
    of groups: the factor of the other operand's zero point. They follow from the codes and are never stored.
    """

    codes: Int8[Array, "..."]
    scale: Float[Array, "..."]
    zero_point: Int32[Array, "..."] | None
    bits: Int32[Array, ""] | None = None
    totals: Int32[Array, "..."] | None = None
    odd: bool = field(default=False, metadata={"static": True})


def affine_params(low: Array, high: Array, qmin: Array, qmax: Array) -> QParams:
    """The grid that spans [low, high], widened to hold zero; zero is exactly a code.

    Only exact products (halves, whose difference does not overflow) are followed by a sum: other ones could be fused
    into a multiply-add in one compiled program and not in another, with another last bit.
    """
    low, high = jnp.minimum(low, 0.0), jnp.maximum(high, 0.0)
    scale = _guarded((0.5 * high - 0.5 * low) * _reciprocal(qmax - qmin) * 2.0)
    return QParams(scale, qmin - jnp.round(low / scale).astype(jnp.int32), qmin, qmax)


def symmetric_params(low: Array, high: Array, qmin: Array, qmax: Array) -> QParams:
    """The grid centred on zero on which max(-low, high) is the largest code."""
    bound = jnp.maximum(-low, high)
    return QParams(_guarded(bound * _reciprocal(qmax)), None, qmin, qmax)


def _reciprocal(codes: Array) -> Array:
    """1 / codes in float32. XLA turns a division by a broadcast number into this product in one program (on one
    device) and not in another (sharded), so that scales would differ in the last bit."""
    return 1.0 / codes.astype(jnp.float32)


def params_of_range(grid: str, low: Array, high: Array, qmin: Array, qmax: Array) -> QParams:
    """`QParams` of a clip range on a grid of the given kind; `unsigned` clips everything below zero."""
    low, high = low.astype(jnp.float32), high.astype(jnp.float32)
    if grid == "symmetric":
        return symmetric_params(low, high, qmin, qmax)
    if grid == "midrise":  # whose levels of a tensor of zeros must be next to nothing, as none is zero
        scale = jnp.maximum(-low, high) * _reciprocal(qmax)
        return QParams(jnp.where(scale <= SMALLEST_SCALE, SMALLEST_SCALE, scale), None, qmin, qmax, odd=True)
    return affine_params(jnp.zeros_like(low) if grid == "unsigned" else low, high, qmin, qmax)


def steps_between(grid: str, qmin: Array, qmax: Array) -> Float[Array, "..."]:
    """The number of steps from the smallest to the largest level: an odd one on a grid without zero."""
    return (qmax - qmin).astype(jnp.float32) * (0.5 if grid == "midrise" else 1.0)


def _guarded(scale: Array) -> Array:
    """The scale, or one where it is too small to divide by; NaN stays NaN."""
    return jnp.where(scale <= SMALLEST_SCALE, jnp.ones_like(scale), scale)


def is_zero_range(low: Array, high: Array) -> Array:
    """Whether a clip range holds only zero, or values too small for any grid."""
    return jnp.maximum(-low, high) <= 2**MAX_BITS * SMALLEST_SCALE


def expand(scale: Array, shape: tuple[int, ...]) -> Array:
    """`scale` made broadcastable to `shape`: an axis with one entry per group is repeated over the group."""
    for axis, (have, want) in enumerate(zip(scale.shape, shape, strict=False) if scale.ndim else ()):
        if have not in (1, want):
            scale = jnp.repeat(scale, want // have, axis)
    return scale


def round_ste(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Round to nearest even with the gradient of the identity (Bengio et al. 2013, arXiv 1308.3432)."""
    return x + jax.lax.stop_gradient(jnp.round(x) - x)


@jax.custom_jvp
def valued(value: Array, like: Array) -> Array:
    """`value` with the derivatives of `like`; a compiled forward pass does not compute `like`."""
    del like
    return value


@valued.defjvp
def _valued_tangent(primals: Any, tangents: Any):
    return valued(*primals), tangents[1]


@jax.custom_jvp
def with_gradient(x: Array, factor: Array) -> Array:
    """`x`, whose derivatives are multiplied by `factor`."""
    del factor
    return x


@with_gradient.defjvp
def _factored_tangent(primals: Any, tangents: Any):
    return with_gradient(*primals), (tangents[0] * primals[1]).astype(primals[0].dtype)


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def clip_passing(x: Array, low: Array, high: Array, beyond: float) -> Array:
    """Clip to [low, high], all in steps; the gradient to `x` is one as far as `beyond` outside of it, else zero."""
    del beyond
    return jnp.clip(x, low, high)


@clip_passing.defjvp
def _clip_tangent(beyond: float, primals: Any, tangents: Any):
    x, low, high = primals
    inside = (x >= low - beyond) & (x <= high + beyond)
    return clip_passing(x, low, high, beyond), jnp.where(inside, tangents[0], jnp.zeros_like(x))


def clip_closed(x: Array, low: Array, high: Array) -> Array:
    """Clip to [low, high]; the gradient to `x` is one on the closed interval, so a value exactly at the bound
    still learns.

    `x` is in steps: a value at the bound may be a few units in the last place beyond it, and counts as inside.
    """
    return clip_passing(x, low, high, ROUNDING)


def clip_rounded(x: Array, low: Array, high: Array) -> Array:
    """Clip to [low, high]; the gradient to `x` is one up to half a step outside as well, where it rounds to the bound.

    A grid with a zero point holds zero because the calibrated range is shifted by up to half a step: values at one end
    of that range are beyond the outermost code, but rounded to it rather than clipped.
    """
    return clip_passing(x, low, high, 0.5 + ROUNDING)


def _clip_bins(x: Array, low: Array, high: Array) -> Array:
    """Clip to [low, high]; the gradient to `x` is one as far as the bins of the outermost odd codes reach."""
    return clip_passing(x, low, high, 1.0 + ROUNDING)


@jax.custom_jvp
def _inverse(scale: Array) -> Array:
    """1 / scale with a derivative that does not overflow for the smallest scale, as -1 / scale**2 would."""
    return 1.0 / scale


@_inverse.defjvp
def _inverse_tangent(primals: Any, tangents: Any):
    inverse = _inverse(*primals)
    return inverse, -(tangents[0] * inverse) * inverse


def _steps(x: Array, p: QParams, clip: Callable[..., Array]) -> Array:
    """`x` in steps of the scale, clipped to the grid, in float32: codes minus the zero point, before rounding."""
    zero = jnp.zeros((), jnp.int32) if p.zero_point is None else expand(p.zero_point, x.shape)
    low, high = (p.qmin - zero).astype(jnp.float32), (p.qmax - zero).astype(jnp.float32)
    inverse = expand(_inverse(p.scale), x.shape)
    return clip(x.astype(jnp.float32) * inverse, low, high)


def _rounded(steps: Array, p: QParams, rounding: Callable[[Array], Array]) -> Array:
    """Steps rounded to those on the grid."""
    return 2 * rounding((steps - 1) * 0.5) + 1 if p.odd else rounding(steps)


def quantize(x: Float[Array, "..."], p: QParams) -> Int8[Array, "..."]:
    """Codes of `x` on the grid `p`. Multiplies by the reciprocal of the scale, clips, then rounds to nearest even."""
    steps = _steps(jax.lax.stop_gradient(x), jax.lax.stop_gradient(p), jnp.clip)
    if p.odd:
        halved = jax.lax.bitcast_convert_type((steps - 1) * 0.5 + ROUNDER, jnp.int32) - ROUNDER_BITS
        return (2 * halved + 1).astype(jnp.int8)
    shifted = steps + ROUNDER
    zero = 0 if p.zero_point is None else expand(p.zero_point, x.shape)
    return (jax.lax.bitcast_convert_type(shifted, jnp.int32) - (ROUNDER_BITS - zero)).astype(jnp.int8)


def dequantize(q: QTensor, dtype: Any = jnp.float32) -> Float[Array, "..."]:
    """The float values that the codes of `q` represent."""
    codes = q.codes.astype(jnp.int32)
    if q.zero_point is not None:
        codes = codes - expand(q.zero_point, q.codes.shape)
    return (codes.astype(jnp.float32) * expand(q.scale, q.codes.shape)).astype(dtype)


def fake_quant(x: Float[Array, "..."], p: QParams, clip: Callable[..., Array] = clip_closed) -> Float[Array, "..."]:
    """`dequantize(quantize(x))` with gradients: the identity for `x` where `clip(x, low, high)`, in steps, passes it,
    zero elsewhere, and the chain rule for `p.scale`. Stop the gradient of a scale that does not learn.

    On a midrise grid the gradient passes to the ends of the outermost bins, one code beyond: with one bit there is
    nothing else in between.
    """
    clip = _clip_bins if p.odd else clip
    return (_rounded(_steps(x, p, clip), p, round_ste) * expand(p.scale, x.shape)).astype(x.dtype)


def rounding_error(x: Float[Array, "..."], p: QParams) -> Float[Array, "..."]:
    """`x` less the value that it is rounded to, over the distance of two levels, as a constant; zero where clipped, in
    the outermost bins of a midrise grid at most a half."""
    x, p = jax.lax.stop_gradient((x, p))
    if not p.odd:
        steps = _steps(x, p, jnp.clip)
        return steps - jnp.round(steps)
    steps = _steps(x, p, lambda u, low, high: jnp.clip(u, low - 1, high + 1))
    return (steps - jnp.clip(_rounded(steps, p, jnp.round), p.qmin, p.qmax)) * 0.5


def stored(codes: Any, odd: bool) -> Any:
    """Codes as they are stored: odd ones by half, which takes one bit less; arrays of numpy or jax."""
    return codes >> 1 if odd else codes


def from_stored(numbers: Any, odd: bool) -> Any:
    """The codes that `stored` took."""
    return 2 * numbers + 1 if odd else numbers


def broadcast_params(p: QParams, ndim: int) -> QParams:
    """`p` with its code range, which has one axis for each layer scan, shaped to broadcast against a tensor of `ndim`
    axes."""

    def shape(bound: Array) -> Array:
        return bound.reshape(bound.shape + (1,) * (ndim - bound.ndim)) if bound.ndim else bound

    return replace(p, qmin=shape(p.qmin), qmax=shape(p.qmax))
