"""Weights of a plan: their values from the parameters, their observed ranges, and their integers."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qat.core.jaxpr import known_operands, laid_out_by_xla
from qat.core.plan import Plan
from qat.core.tensors import Weight
from qat.numerics import ANY_BITS, QParams, QTensor, expand, is_zero_range, quantize
from qat.observers import observers

FAR = 4.0  # times the clip range: beyond it a value is far outside


def weight_values(plan: Plan, leaves: list[Any]) -> dict[str, Array]:
    """The float values of every stored weight, by key; a weight that is no leaf is computed from the leaves."""
    computed = {w.place[0]: w for w in plan.weights.values() if w.leaf is None}
    sites = plan.quantized
    wanted = {place: (sites[place].contraction, w.place[1]) for place, w in computed.items()}
    found = known_operands(plan.jaxpr, leaves, wanted)
    return {
        key: found[w.place[0]] if w.leaf is None else leaves[w.leaf].astype(w.dtype) for key, w in plan.weights.items()
    }


def reduced_shape(w: Weight) -> tuple[int, ...]:
    """The shape of the weight's scale: one on every axis without scales of its own, the number of groups on a grouped
    one."""
    return tuple(n if i in w.channels else w.groups.get(i, 1) for i, n in enumerate(w.shape))


def by_channel(w: Weight, x: Array) -> Float[Array, "channels values"]:
    """The weight's values with those that share a scale in one row, in float32."""
    rows = list(w.channels)
    if w.group is not None and w.spec.group_size:
        x = x.reshape(*x.shape[: w.group], -1, w.spec.group_size, *x.shape[w.group + 1 :])
        rows = sorted([i + (i > w.group) for i in rows] + [w.group])
    order = (*rows, *(i for i in range(x.ndim) if i not in rows))
    size = 1
    for i in rows:
        size *= x.shape[i]
    return x.transpose(order).reshape(size, -1).astype(jnp.float32)


def observed_weight(w: Weight, x: Array) -> Any:
    """The state of the weight's observer after its values."""
    return laid_out_by_xla(partial(_observed, w), x)


def _observed(w: Weight, x: Array) -> Any:
    observer, rows = observers.build(w.spec.observer), by_channel(w, x.astype(w.dtype))
    return observer.update(observer.init(rows.shape[0]), rows)


def nameless(w: Weight) -> Weight:
    """The weight without all that tells it from others of its shape and kind, which share what is compiled for it."""
    spec = replace(w.spec, bits=ANY_BITS, grid="symmetric", quantizer="ste")
    return replace(w, key="", spec=spec, leaf=None, depth=0, slices=(), place=((), 0), value=None, totals=False)


def present_range(w: Weight, x: Array) -> tuple[Array, Array]:
    """The smallest and largest present value, shaped as the weight's scale; zero counts as one of the values."""
    x, shape = x.astype(jnp.float32), reduced_shape(w)
    return _reduced(partial(jnp.min, initial=0), x, shape), _reduced(partial(jnp.max, initial=0), x, shape)


def present_bound(w: Weight, x: Array) -> Array:
    """The largest absolute value at present, shaped as the weight's scale: one pass, where the range takes two."""
    return _reduced(partial(jnp.max, initial=0), jnp.abs(x.astype(jnp.float32)), reduced_shape(w))


def is_far_outside(w: Weight, x: Array, low: Array | None, high: Array | None) -> Array:
    """Whether, for some scale, most of the values that share it lie far outside of their clip range.

    No observer chooses such a range: the weight has changed since calibration.
    """
    assert low is not None and high is not None
    size, shape = jnp.abs(x.astype(jnp.float32)), reduced_shape(w)
    beyond = _reduced(jnp.sum, size > FAR * expand(jnp.maximum(-low, high), x.shape), shape)
    return jnp.any((2 * beyond > _reduced(jnp.sum, size > 0, shape)) & ~is_zero_range(low, high))


def integers(w: Weight, x: Array, grid: QParams) -> QTensor:
    """The weight on its grid, with the sums of its codes where a product needs them."""
    q = QTensor(quantize(x, grid), grid.scale, grid.zero_point, odd=grid.odd)
    return replace(q, totals=code_totals(w, q.codes) if w.totals else None)


def code_totals(w: Weight, codes: Array) -> Array:
    """Sums of the codes over the contracted axes, which stay with length one, or one a group."""
    return sums_to(codes, tuple(w.groups.get(i, 1) if i in w.summed else n for i, n in enumerate(w.shape)))


def sums_to(codes: Array, shape: tuple[int, ...]) -> Array:
    """Sums of equal stretches of the codes along each axis, as many as `shape` has there."""
    return _reduced(jnp.sum, codes.astype(jnp.int32), shape)


def _reduced(reduce: Callable[..., Array], x: Array, shape: tuple[int, ...]) -> Array:
    """The array reduced to `shape`, over each whole axis that has length one there, then over equal stretches."""
    x = reduce(x, axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)
    if x.shape == shape:
        return x
    split = [n for have, want in zip(x.shape, shape, strict=True) for n in (want, have // want)]
    return reduce(x.reshape(split), axis=tuple(range(1, len(split), 2)))


def in_operand_layout(q: QTensor, perm: tuple[int, ...]) -> QTensor:
    """A stored weight (less its scanned axes) with its axes as the site's operand has them."""

    def transposed(x: Array | None) -> Array | None:
        return x if x is None or x.ndim == 0 else x.transpose(perm)

    return replace(
        q,
        codes=q.codes.transpose(perm),
        scale=transposed(q.scale),
        zero_point=transposed(q.zero_point),
        totals=transposed(q.totals),
        bits=None,
    )


def map_layers(fn: Callable[..., Any], depth: int) -> Callable[..., Any]:
    """`fn` mapped over the given number of leading axes."""
    for _ in range(depth):
        fn = jax.vmap(fn)
    return fn
