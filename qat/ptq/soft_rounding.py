"""Rounding learned by gradients: a segment's weights go up or down to the grid so that its outputs stay as in float.

A weight w on a grid of scale s is (floor(w/s) + h(V)) * s while V learns, with the rectified sigmoid
h(V) = clip(1.2 * sigmoid(V) - 0.1, 0, 1), and R = mean(1 - |2 h(V) - 1|^beta) draws h to 0 or 1 (Nagel et al. 2020,
arXiv 2004.10568). The outputs' squared error is counted relative to that of nearest rounding, so that one weight of R
fits layers of every size.
"""

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qat.core.evaluate import dynamic_grid, in_scope, site_result
from qat.core.operands import ActivationOperand, Operands
from qat.core.plan import SitePlan
from qat.engines import engines
from qat.numerics import QParams, expand, fake_quant
from qat.ptq.loops import product
from qat.ptq.segment import Segment

STRETCH = 1.2  # of the sigmoid, whose ends are cut off: so that h reaches 0 and 1
BETAS = (20.0, 2.0)  # of the regularizer, after the warm-up and at the end
DECAYS, TINY = (0.9, 0.999), 1e-8  # of Adam (Kingma and Ba 2015, arXiv 1412.6980)
LEAST_ERROR = 1e-20

Arrays = tuple[Array, ...]


@dataclass(frozen=True)
class Settings:
    """`steps` of Adam at `rate` on `batch` examples each (None: as many as the walk takes at a time); for the first
    share `warm_up` of them R counts nothing, then `pull` times. `drop` is the probability that an activation's element
    stays in float in a step, and one of the block's input that of the float function. Ranges of activations learn at
    `range_rate`, unless it is 0."""

    steps: int
    batch: int | None
    rate: float
    pull: float
    warm_up: float
    drop: float = 0.0
    range_rate: float = 0.0

    def __post_init__(self) -> None:
        whole = {"steps": self.steps, "batch": 1 if self.batch is None else self.batch}
        for name, number in whole.items():
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ValueError(f"`{name}` must be a whole number of at least 1, got {number!r}.")
        if not (self.rate > 0 and self.pull >= 0 and self.range_rate >= 0):
            raise ValueError(
                f"`rate` must be positive and `pull` and `range_rate` not negative, got {self.rate!r}, {self.pull!r} "
                f"and {self.range_rate!r}."
            )
        for name, share in (("warm_up", self.warm_up), ("drop", self.drop)):
            if not 0 <= share < 1:
                raise ValueError(f"`{name}` must be in [0, 1), got {share!r}.")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Task:
    """The arrays of one unit: its inputs in the quantized and in the float function, the outputs to reach and how much
    their errors count (none: all alike), a row an example; the weights to round and the grids of these and of static
    activations, the code ranges of dynamic ones, other weights as they are, and the integers of sites in loops."""

    inputs: Arrays
    float_inputs: Arrays
    targets: Arrays
    importance: Arrays
    weights: dict[str, Array]
    grids: dict[str, QParams]
    codes: dict[str, tuple[Array, Array]]
    others: dict[str, Array]
    nested: dict[str, Any]
    constants: Arrays


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rounded:
    """The weights on their grids, the factors of the ranges that learned, and the squared error of the outputs with
    nearest rounding and with these, by which the better was chosen."""

    weights: dict[str, Array]
    factors: dict[str, Array]
    nearest: Float[Array, "*units"]
    error: Float[Array, "*units"]


def rectified_sigmoid(v: Array) -> Array:
    """h(V), in [0, 1]."""
    return jnp.clip(STRETCH * jax.nn.sigmoid(v) - (STRETCH - 1) / 2, 0, 1)


def inverse_sigmoid(h: Array) -> Array:
    """The V whose h(V) is `h`."""
    p = (h + (STRETCH - 1) / 2) / STRETCH
    return jnp.log(p / (1 - p))


def bounds(p: QParams, shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """The scale, and the ends of a grid in steps from zero, each made to broadcast against a tensor of `shape`."""
    zero = jnp.zeros((), jnp.int32) if p.zero_point is None else expand(p.zero_point, shape)
    return expand(p.scale, shape), (p.qmin - zero).astype(jnp.float32), (p.qmax - zero).astype(jnp.float32)


def on_grid(steps: Array, p: QParams) -> Array:
    """The values of so many steps from zero, clipped to the grid."""
    scale, low, high = bounds(p, steps.shape)
    return jnp.clip(steps, low, high) * scale


def down(w: Array, p: QParams) -> tuple[Array, Array]:
    """The steps from zero below each weight, which one clipped is at, and the rest up to the weight in steps."""
    scale, low, high = bounds(p, w.shape)
    steps = jnp.clip(w * (1.0 / scale), low, high)
    return jnp.floor(steps), steps - jnp.floor(steps)


def _site(task: Task, weights: dict[str, Array], factors: dict[str, Array], drop: tuple[Array, float] | None) -> Any:
    """The evaluation of sites in float, with activations on their grids but for those elements that are dropped."""
    scope: dict[Any, Array] = {}

    def activation(site: SitePlan, side: int, a: ActivationOperand, x: Array) -> Array:
        if in_scope(a, x) in scope:
            return scope[in_scope(a, x)]
        grid = task.grids.get(a.key)
        if grid is None:
            grid = dynamic_grid(site.contraction, side, a, x, task.codes[a.key])
        if a.key in factors:
            grid = replace(grid, scale=grid.scale * jnp.exp(factors[a.key]))
        out = fake_quant(x, grid)
        if drop is not None:
            out = jnp.where(_chosen(jax.random.fold_in(drop[0], len(scope)), drop[1], x.shape), x, out)
        scope[in_scope(a, x)] = out
        return out

    def run(site: SitePlan, arrays: list[Any]) -> Array:
        seen = list(arrays)
        for side, operand in enumerate(site.operands):
            if isinstance(operand, ActivationOperand):
                seen[side] = activation(site, side, operand, arrays[side])
            elif operand is not None:
                seen[side] = weights[operand.key].transpose(operand.perm).astype(arrays[side].dtype)
        return product(site.contraction.equation, *seen)

    return run


def _chosen(key: Array, share: float, shape: tuple[int, ...]) -> Array:
    """True with the given probability, in steps of 1/256."""
    size = math.prod(shape)
    words = jax.random.bits(key, (math.ceil(size / 4),), jnp.uint32)  # a byte drawn alone takes as long as four
    drawn = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[:size].reshape(shape)
    return drawn < jnp.uint8(min(round(share * 256), 255))


def _outputs(
    segment: Segment, task: Task, weights: dict[str, Array], factors: dict[str, Array], inputs: Arrays, drop: Any
) -> Arrays:
    def inside(site: SitePlan, arrays: list[Any], operands: Operands, scope: Any) -> Array:
        return site_result(site, segment.plan, engines.build("integer"), arrays, operands, train=True, scope=scope)

    site = _site(task, weights | task.others, factors, drop)
    return segment.run(inputs, task.constants, site, (inside, task.nested))


def _squared(outputs: Arrays, targets: Arrays, importance: Arrays) -> Array:
    """The sum of squared errors over all outputs of floating type, each times its importance."""
    total = jnp.zeros(())
    for i, (out, target) in enumerate(zip(outputs, targets, strict=True)):
        if jnp.issubdtype(out.dtype, jnp.floating):
            errors = (out.astype(jnp.float32) - target.astype(jnp.float32)) ** 2
            total += jnp.sum(errors * importance[i] if importance else errors)
    return total


def _whole_error(segment: Segment, task: Task, weights: Any, factors: Any, batch: int) -> Array:
    """The mean over all examples, `batch` at a time."""
    count = jax.tree.leaves(task.inputs)[0].shape[0]

    def one(rows: tuple[Arrays, Arrays, Arrays]) -> Array:
        inputs, targets, importance = rows
        return _squared(_outputs(segment, task, weights, factors, inputs, None), targets, importance)

    rows = jax.tree.map(
        lambda x: x.reshape(count // batch, batch, *x.shape[1:]), (task.inputs, task.targets, task.importance)
    )
    return jax.lax.map(one, rows).sum() / count


def _pull(v: dict[str, Array], step: Array, s: Settings) -> Array:
    """The regularizer R at a step, its exponent annealed by half a cosine."""
    done = (step / s.steps - s.warm_up) / (1 - s.warm_up)
    beta = BETAS[1] + 0.5 * (BETAS[0] - BETAS[1]) * (1 + jnp.cos(jnp.pi * jnp.clip(done, 0, 1)))
    sums = [jnp.sum(1 - jnp.abs(2 * rectified_sigmoid(x) - 1) ** beta) for x in v.values()]
    return jnp.where(done > 0, s.pull, 0.0) * sum(sums) / sum(x.size for x in v.values())


def _adam(grads: Any, moments: Any, values: Any, step: Array, rates: Any) -> tuple[Any, Any]:
    """Moments and values after one step of Adam, each value at its rate."""
    first = jax.tree.map(lambda m, g: DECAYS[0] * m + (1 - DECAYS[0]) * g, moments[0], grads)
    second = jax.tree.map(lambda m, g: DECAYS[1] * m + (1 - DECAYS[1]) * g * g, moments[1], grads)
    fix = [1 - decay ** (step + 1.0) for decay in DECAYS]
    moved = jax.tree.map(
        lambda x, m, n, rate: x - rate * (m / fix[0]) / (jnp.sqrt(n / fix[1]) + TINY), values, first, second, rates
    )
    return (first, second), moved


def _learn(segment: Segment, s: Settings, learned: tuple[str, ...], task: Task, key: Array) -> Rounded:
    batch = s.batch
    assert batch is not None  # whoever walks the function has chosen it
    floors = {name: down(w, task.grids[name]) for name, w in task.weights.items()}
    v = {name: inverse_sigmoid(rest) for name, (_, rest) in floors.items()}
    factors = dict.fromkeys(learned, jnp.zeros(()))
    nearest = {name: on_grid(jnp.round(sum(floors[name])), task.grids[name]) for name in v}
    start = _whole_error(segment, task, nearest, {}, batch)
    count = jax.tree.leaves(task.inputs)[0].shape[0]

    def placed(v: dict[str, Array], hard: bool) -> dict[str, Array]:
        share = {name: (x >= 0) if hard else rectified_sigmoid(x) for name, x in v.items()}
        return {name: on_grid(floors[name][0] + h, task.grids[name]) for name, h in share.items()}

    def cost(values: Any, step: Array, key: Array) -> Array:
        rows, mixed, dropped = jax.random.split(key, 3)
        at = jax.random.randint(rows, (batch,), 0, count)
        inputs = tuple(x[at] for x in task.inputs)
        if s.drop:
            exact = tuple(x[at] for x in task.float_inputs)
            inputs = tuple(
                jnp.where(_chosen(jax.random.fold_in(mixed, i), s.drop, a.shape), b, a)
                for i, (a, b) in enumerate(zip(inputs, exact, strict=True))
            )
        v, factors = values
        out = _outputs(segment, task, placed(v, hard=False), factors, inputs, (dropped, s.drop) if s.drop else None)
        error = _squared(out, tuple(x[at] for x in task.targets), tuple(x[at] for x in task.importance))
        return error / batch / jnp.maximum(start, LEAST_ERROR) + _pull(v, step, s)

    def turn(carry: Any, step: Array) -> tuple[Any, None]:
        values, moments = carry
        grads = jax.grad(cost)(values, step, jax.random.fold_in(key, step))
        fade = 0.5 * (1 + jnp.cos(jnp.pi * step / s.steps))
        rates = (dict.fromkeys(v, s.rate), dict.fromkeys(factors, s.range_rate * fade))
        moments, values = _adam(grads, moments, values, step, rates)
        return (values, moments), None

    zeros = jax.tree.map(jnp.zeros_like, (v, factors))
    ((v, factors), _), _ = jax.lax.scan(turn, ((v, factors), (zeros, zeros)), jnp.arange(s.steps))
    chosen = placed(v, hard=True)
    error = _whole_error(segment, task, chosen, factors, batch)
    better = error < start
    chosen = jax.tree.map(lambda a, b: jnp.where(better, a, b), chosen, nearest)
    factors = {name: jnp.where(better, jnp.exp(x), 1.0) for name, x in factors.items()}
    return Rounded(chosen, factors, start, jnp.where(better, error, start))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def learn(segment: Segment, settings: Settings, learned: tuple[str, ...], task: Task, key: Array) -> Rounded:
    """The best rounding found of one unit, or of several alike whose arrays are stacked: `key` has an axis then.
    `learned` names the activations whose ranges learn."""
    one = functools.partial(_learn, segment, settings, learned)
    return jax.vmap(one)(task, key) if jax.typeof(key).ndim else one(task, key)
