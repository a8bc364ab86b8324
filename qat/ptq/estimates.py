"""Sensitivity of layers to their bits, estimated for all of them at once from one forward and one backward pass."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from qat.core.evaluate import dynamic_grid
from qat.core.jaxpr import Contraction, Rewriting, bind, placed_as, rewrite
from qat.core.operands import ActivationOperand, WeightOperand
from qat.core.plan import Plan, make_plan
from qat.core.state import ClipRange, activations, base_grid, specs
from qat.core.weights import present_range, weight_values
from qat.numerics import QParams, fake_quant
from qat.ptq.groups import Choice, Group
from qat.ptq.sensitivity import SIDES, Loss, Setup

type Kind = Literal["fisher", "gauss_newton", "taylor"]
type Clips = tuple[ClipRange, ...]
"""The clip ranges of one tensor, by width."""

KINDS: tuple[Kind, ...] = ("fisher", "gauss_newton", "taylor")


@dataclass(frozen=True)
class Estimates:
    """The change of the loss with other bits of each tensor alone, by kind of estimate, tensor key and bits (None:
    float).

    With g the gradient of one example's loss to a tensor, and d what other rounding adds to it: `fisher` is
    E[sum g^2 d^2] / 2 (the diagonal of the Fisher matrix; HAWQ-V2, Dong et al. 2020, arXiv 1911.03852, weighs layers by
    a like trace, NVIDIA's ModelOpt scores them so), `gauss_newton` E[(sum g d)^2] / 2, which takes in how the errors of
    one tensor add up, and `taylor` the same with the first-order term E[sum g d]. The first two are of rounding away
    from float, less the same of the present rounding; the last is of the step from the present one.
    """

    values: Mapping[Kind, Mapping[str, Mapping[int | None, float]]]

    def change(self, kind: Kind, group: Group, choice: Choice) -> float:
        """The sum over a group's tensors at these widths; a side without bits is in float."""
        sides = ((side, None if choice is None else getattr(choice, side)) for side in SIDES)
        return sum(self.values[kind][key][bits] for side, bits in sides for key in getattr(group, side))


def estimate(setup: Setup, around: Sequence[Choice] | None = None) -> Estimates:
    """Estimate every tensor at every width from one forward and backward pass over the batches of the network whose
    groups have the widths `around` (None: as in the recipe), rounding passed straight through.

    Each example's gradient counts for itself where all inputs and targets have one leading axis of the same length,
    else each batch's. The function must be differentiable in reverse: a `while` loop is not.
    """
    clips = {key: tuple(setup.states[bits].clips[key] for bits in setup.widths) for key in specs(setup.plan)}
    now = _places(setup, setup.own if around is None else around)
    sums: Any = None
    count = 0
    for inputs, target in setup.batches:
        examples, n = _examples(inputs, target)
        found = _pass(setup.q.program, setup.loss, setup.params, clips, now, examples)
        sums = found if sums is None else jax.tree.map(np.add, sums, found)
        count += n
    columns = (*setup.widths, None)
    table: dict[Kind, dict[str, dict[int | None, float]]] = {
        kind: {
            key: dict(zip(columns, (np.asarray(row, np.float64) / count).tolist(), strict=True))
            for key, row in part.items()
        }
        for kind, part in zip(KINDS, sums, strict=True)
    }
    return Estimates(table)


def _places(setup: Setup, around: Sequence[Choice]) -> dict[str, Array]:
    """The place of each tensor's present width among the columns, of which the last is float."""
    columns = (*setup.widths, None)
    return {
        key: jnp.asarray(columns.index(None if choice is None else getattr(choice, side)))
        for group, choice in zip(setup.groups, around, strict=True)
        for side in SIDES
        for key in getattr(group, side)
    }


def _examples(inputs: tuple[Any, ...], target: Any) -> tuple[Any, int]:
    """The batch with an axis of draws in front, and how many they are: its examples, or itself alone."""
    leaves = jax.tree.leaves((inputs, target))
    lengths = {np.shape(leaf)[0] if np.ndim(leaf) else None for leaf in leaves}
    n = lengths.pop() if len(lengths) == 1 else None
    if not n:
        return jax.tree.map(lambda x: jnp.asarray(x)[None], (inputs, target)), 1
    return jax.tree.map(lambda x: jnp.asarray(x).reshape(n, 1, *np.shape(x)[1:]), (inputs, target)), n


@jax.custom_vjp
def _probed(x: Array, rounded: Sequence[Array], now: Array, taps: Array) -> Array:
    """`x` rounded as it is `now`, its gradient straight through; that to `taps` are sums that estimates are made of.

    Of gradient g and the changes d by which each column of `rounded`, and float as the last, differ from `x`, and e by
    which they differ from the present one: rows of sum g^2 d^2, sum g d and sum g e.
    """
    del taps
    return jnp.stack([*rounded, x])[now]


def _probed_forward(x: Array, rounded: Sequence[Array], now: Array, taps: Array) -> tuple[Array, Any]:
    return _probed(x, rounded, now, taps), (x, rounded, now)


def _probed_backward(saved: Any, gradient: Array) -> tuple[Any, ...]:
    x, rounded, now = saved
    g = gradient.astype(jnp.float32)
    away = [g * (one - x).astype(jnp.float32) for one in (*rounded, x)]
    squares, sums = (jnp.stack([f(one) for one in away]) for f in (lambda one: jnp.sum(one**2), jnp.sum))
    taps = jnp.stack([squares, sums, sums - sums[now]])
    return gradient, [jnp.zeros_like(one) for one in rounded], None, taps


_probed.defvjp(_probed_forward, _probed_backward)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _pass(program: Any, loss: Loss, params: Any, clips: Mapping[str, Clips], now: Any, examples: Any) -> Any:
    """The three estimates in the order of `KINDS`, by key and column, summed over the draws."""
    zeros = {key: jnp.zeros((3, len(one) + 1)) for key, one in clips.items()}

    def draw(sums: Any, example: Any) -> tuple[Any, None]:
        inputs, target = example
        found = jax.grad(lambda taps: loss(_tapped(program, params, clips, now, taps, inputs), target))(zeros)
        squares = {key: (taps[0] - taps[0, now[key]]) / 2 for key, taps in found.items()}
        joint = {key: (taps[1] ** 2 - taps[1, now[key]] ** 2) / 2 for key, taps in found.items()}
        steps = {key: taps[2] + taps[2] ** 2 / 2 for key, taps in found.items()}
        return jax.tree.map(jnp.add, sums, (squares, joint, steps)), None

    start = tuple({key: jnp.zeros(len(one) + 1) for key, one in clips.items()} for _ in KINDS)
    return jax.lax.scan(draw, start, examples)[0]


def _tapped(program: Any, params: Any, clips: Mapping[str, Clips], now: Any, taps: Any, inputs: Any) -> Any:
    """The function with every tensor that the recipe quantizes probed, once for each array that it is."""
    plan = make_plan(program.fn, program.recipe, params, inputs)
    leaves, sites, known = jax.tree.leaves(params), plan.quantized, activations(plan)
    weights = {
        key: _probed(x, jax.lax.stop_gradient(_rounded(plan, key, x, clips[key])), now[key], taps[key])
        for key, x in weight_values(plan, leaves).items()
    }

    def handler(c: Contraction, eqn: Any, arrays: list[Any], operands: Any, carried: Any, scope: Any):
        values = list(arrays)
        for side, operand in enumerate(sites[c.location].operands):
            x = arrays[side]
            if isinstance(operand, WeightOperand):
                values[side] = placed_as(operands[operand.key].transpose(operand.perm), x).astype(x.dtype)
            elif isinstance(operand, ActivationOperand):
                place = (operand.key, x.shape)
                if place not in scope:
                    grids = _grids(c, side, operand, x, operands[operand.key])
                    rounded = jax.lax.stop_gradient([fake_quant(x, grid) for grid in grids])
                    scope[place] = _probed(x, rounded, now[operand.key], taps[operand.key])
                values[side] = scope[place]
        return bind(eqn, values)[0], carried

    rewriting = Rewriting({at: s.contraction for at, s in sites.items()}, handler, plan.slices)
    operands = {**weights, **{key: clips[key] for key in known}}
    out, _ = rewrite(rewriting, plan.jaxpr, [*leaves, *jax.tree.leaves(inputs)], operands, {})
    return jax.tree.unflatten(plan.out_tree, out)


def _rounded(plan: Plan, key: str, x: Array, clips: Clips) -> list[Array]:
    """A stored weight on its grid at each width."""
    w, found = plan.weights[key], []
    for clip in clips:
        if clip.low is None:
            low, high = present_range(w, x)
            clip = ClipRange(low, high, qmin=clip.qmin, qmax=clip.qmax)
        found.append(fake_quant(x, base_grid(w.spec, clip, x.ndim)))
    return found


def _grids(c: Contraction, side: int, operand: ActivationOperand, x: Array, clips: Clips) -> list[QParams]:
    """The grid of an activation at each width; a dynamic one is that of the values themselves."""
    if operand.spec.dynamic:
        return [dynamic_grid(c, side, operand, x, (clip.qmin, clip.qmax)) for clip in clips]
    return [base_grid(operand.spec, clip, 0) for clip in clips]
