"""Rounding one input after the other, each error made good by the inputs that are still to come."""

import functools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qat.core.evaluate import dynamic_grid
from qat.core.jaxpr import Contraction
from qat.core.operands import ActivationGrid, ActivationOperand, Operands, WeightOperand
from qat.core.plan import SitePlan
from qat.engines import conv_parameters
from qat.numerics import QParams, fake_quant
from qat.ptq.blocks import Found, layers
from qat.ptq.examples import operands_here
from qat.ptq.method import Method, Subject, register
from qat.ptq.program import Flat
from qat.ptq.segment import Segment
from qat.ptq.soft_rounding import bounds
from qat.ptq.streaming import Place, Prepared, Result, Visit, Walk, weight_grid

BATCH = 16  # examples whose inputs are summed at once
HIGHEST = jax.lax.Precision.HIGHEST
Matrix = Float[Array, "groups inputs outputs"]


@register
def gptq(samples: int = 512, damping: float = 0.01, act_order: bool = True) -> Method:
    """Round each weight matrix input by input, with the error of each made good by the inputs to come.

    For a layer with inputs x, H is the mean of x x^T over its rows (of a convolution, its patches; of a grouped one,
    by group). In the order of falling diagonal of H, or of the inputs without `act_order`, the weights w_i of input i
    to all outputs are rounded to q_i, and those of every later input j lose (w_i - q_i) U_ij / U_ii, where U is the
    upper Cholesky factor of the inverse of H + `damping` mean(diag H) I (Frantar et al. 2022, arXiv 2210.17323). The
    inputs are those that the quantized layers before it give, on their grid where activations are quantized too. Scales
    stay those of calibration, per channel or group. Works on dense layers and convolutions; most is gained where
    weights alone are quantized and inputs are correlated. Cost: two forward passes over at most `samples` examples, and
    for a layer of n inputs and m outputs some n^3 + n^2 m multiplications, seconds up to n = 2,000; memory n^2 numbers.
    """
    if not damping > 0:
        raise ValueError(f"`damping` must be positive, got {damping!r}. It is a share of the mean of H's diagonal.")
    walk = Walk(_matrices, partial(_start, damping, act_order), samples, BATCH)
    return Method(walk.run, check=walk.check, rounds=True)


def _matrices(flat: Flat, cuttable: Any) -> Found:
    """Layers whose weight is a matrix of inputs and outputs, or one a group."""
    found, units, left = layers(flat, cuttable, relu=False), [], {}
    for unit in found.units:
        c = flat.sites[unit.start].contraction
        if c.op == "dot_general" and c.params["dimension_numbers"][1][0]:
            left[c.id] = "a product over a batch of matrices"
        else:
            units.append(unit)
    return Found(tuple(units), {**found.left, **left})


def _start(damping: float, act_order: bool, subject: Subject, prepared: Prepared) -> Visit:
    del subject

    def visit(place: Place) -> list[Result]:
        return [_result(place, i) for i in range(len(place.units))]

    def _result(place: Place, i: int) -> Result:
        here, (key,), flat = place.cuts[i], place.units[i].weights, prepared.program.flat
        name = next(name for name, known in here.keys.items() if known == key)
        fixed = tuple(prepared.constants[v] for v in here.constants)
        local = {n: one for n, one in operands_here(here, place.operands).items() if n != name}
        inputs = tuple(place.simulated[v] for v in here.inputs)
        second = _second_moments(here.segment, prepared.program.batch, inputs, fixed, local)
        leaf = jnp.asarray(place.leaves[flat.plan.weights[key].leaf or 0], jnp.float32)
        grid = weight_grid(flat, key, place.state)
        rounded, nearest, error = _rounded(here.segment, act_order, damping, leaf, grid, second)
        return Result({key: rounded}, {}, float(nearest), float(error))

    return visit


@functools.partial(jax.jit, static_argnums=(0, 1))
def _second_moments(
    segment: Segment, batch: int, inputs: Any, constants: Any, operands: Operands
) -> Float[Array, "groups inputs inputs"]:
    """H over all examples, `batch` at a time."""
    (site,) = segment.sites.values()
    c = site.contraction
    side = next(i for i, operand in enumerate(site.operands) if not isinstance(operand, WeightOperand))

    def rows_of(part: Any) -> Any:
        env = dict(enumerate((*part, *constants)))
        atom = segment.lines[0].reads[side]
        x = env[atom]
        operand = site.operands[side]
        if isinstance(operand, ActivationOperand):
            values = operands[operand.key]
            assert isinstance(values, ActivationGrid)
            x = fake_quant(x, values.grid or dynamic_grid(c, side, operand, x, values.codes))
        return _rows(c, side, x.astype(jnp.float32))

    def add(total: Any, part: Any) -> tuple[Any, None]:
        rows = rows_of(part)
        return total + jnp.einsum("rgi,rgj->gij", rows, rows, precision=HIGHEST), None

    parts = jax.tree.map(lambda x: x.reshape(-1, batch, *x.shape[1:]), inputs)
    like = jax.eval_shape(rows_of, jax.tree.map(lambda x: x[0], parts))
    start = jnp.zeros((like.shape[1], like.shape[2], like.shape[2]))
    total, _ = jax.lax.scan(add, start, parts)
    return total / (like.shape[0] * jax.tree.leaves(parts)[0].shape[0])


def _rows(c: Contraction, side: int, x: Array) -> Float[Array, "rows groups inputs"]:
    """What each output is a product of, a row each."""
    if c.op == "dot_general":
        summed = c.params["dimension_numbers"][0][side]
        kept = [i for i in range(x.ndim) if i not in summed]
        length = int(np.prod([x.shape[i] for i in summed]))
        return x.transpose(*kept, *summed).reshape(-1, 1, length)
    p, numbers = conv_parameters(c.params), c.params["dimension_numbers"]
    groups, window = p["feature_group_count"], [c.operands[1].shape[i] for i in numbers.rhs_spec[2:]]
    x = x.transpose(numbers.lhs_spec)
    patches = jax.lax.conv_general_dilated_patches(
        x, window, p["window_strides"], p["padding"], p["lhs_dilation"], p["rhs_dilation"], precision=HIGHEST
    )
    patches = jnp.moveaxis(patches, 1, -1)  # inputs: channels, then places of the window
    return patches.reshape(-1, groups, patches.shape[-1] // groups)


def _as_matrix(site: SitePlan, stored: Array) -> Matrix:
    """A stored weight as its inputs by its outputs, a matrix for each group."""
    c = site.contraction
    side, weight = next((i, one) for i, one in enumerate(site.operands) if isinstance(one, WeightOperand))
    w = stored.transpose(weight.perm)
    if c.op == "dot_general":
        summed = c.params["dimension_numbers"][0][side]
        kept = [i for i in range(w.ndim) if i not in summed]
        length = int(np.prod([w.shape[i] for i in summed]))
        return w.transpose(*summed, *kept).reshape(1, length, -1)
    numbers, groups = c.params["dimension_numbers"], c.params["feature_group_count"]
    w = w.transpose(numbers.rhs_spec)  # outputs, channels of one group, window
    return w.reshape(groups, w.shape[0] // groups, -1).transpose(0, 2, 1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _rounded(
    segment: Segment, act_order: bool, damping: float, w: Array, grid: QParams, second: Array
) -> tuple[Array, Array, Array]:
    """The stored weight on its grid, and the squared error of the outputs with nearest rounding and with it."""
    (site,) = segment.sites.values()
    matrix, back = jax.vjp(lambda x: _as_matrix(site, x), w)
    scale, low, high = (_as_matrix(site, jnp.broadcast_to(x, w.shape)) for x in bounds(grid, w.shape))
    found = jax.vmap(partial(_by_input, act_order, damping))(second, matrix, scale, low, high)
    plain = _nearest(matrix, scale, low, high)

    def error(q: Matrix) -> Array:
        return jnp.einsum("gio,gij,gjo->", q - matrix, second, q - matrix, precision=HIGHEST)

    nearest, own = error(plain), error(found)
    better = own < nearest
    # Axes are only moved, so that the transpose of the map to matrices is its inverse.
    return back(jnp.where(better, found, plain))[0], nearest, jnp.where(better, own, nearest)


def _nearest(w: Array, scale: Array, low: Array, high: Array) -> Array:
    return jnp.clip(jnp.round(w * (1.0 / scale)), low, high) * scale


def _by_input(
    act_order: bool, damping: float, second: Array, w: Array, scale: Array, low: Array, high: Array
) -> Float[Array, "inputs outputs"]:
    """One matrix, rounded input by input."""
    count = w.shape[0]
    diagonal = jnp.diagonal(second)
    order = jnp.argsort(-diagonal) if act_order else jnp.arange(count)
    second, w, scale, low, high = second[order][:, order], *(x[order] for x in (w, scale, low, high))
    mean = jnp.maximum(diagonal.mean(), 1e-20)
    damped = second / mean + damping * jnp.eye(count)
    upper = jnp.linalg.cholesky(jnp.linalg.inv(damped)).T

    def turn(i: Any, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        w, q = carry
        here = _nearest(w[i], scale[i], low[i], high[i])
        error = (w[i] - here) / upper[i, i]
        # Invariant: inputs after i hold what makes the outputs' error least, given those rounded so far; the factor
        # is upper triangular, so that rows before i stay.
        return w - upper[i][:, None] * error, q.at[i].set(here)

    _, q = jax.lax.fori_loop(0, count, turn, (w, jnp.zeros_like(w)))
    return jnp.zeros_like(q).at[order].set(q)
