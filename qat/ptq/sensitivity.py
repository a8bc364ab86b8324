"""Sensitivity of layers to their bits, measured: the loss with one group of sites at every width, and in float.

Bits, ranges and the choice of float are data, so that all of it runs one compiled program.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from qat.core.evaluate import all_operands, in_scope, site_result
from qat.core.jaxpr import Contraction, Rewriting, bind, placed_as, rewrite
from qat.core.operands import ActivationOperand, WeightOperand
from qat.core.plan import Plan, SitePlan, make_plan
from qat.core.state import QuantState, check_state
from qat.core.weights import in_operand_layout
from qat.engines import engines
from qat.numerics import MAX_BITS, MIN_BITS, dequantize
from qat.ptq.groups import Choice, Group, Width, groups_of, mixed, recipe_of
from qat.transform import Quantized

type Loss = Callable[[Any, Any], jax.Array]
type Batch = tuple[tuple[Any, ...], Any]
"""The function's inputs, and what `loss(outputs, target)` takes beside its outputs."""

WIDTHS = tuple(range(MIN_BITS, MAX_BITS + 1))
CONFIDENCE = 0.95
SIDES: tuple[Literal["weights", "activations"], ...] = ("weights", "activations")


@dataclass(frozen=True)
class Change:
    """The change of the loss where one group alone has other bits: `side` says of which of its tensors, both in float.

    `losses` are the changes by batch; negative ones are gains. `low` and `high` bound their mean over further batches
    in 95 of 100 cases (Student's t), None of a single batch.
    """

    group: Group
    side: Literal["weights", "activations", "float"]
    bits: int | None
    losses: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The change, averaged over the batches."""
        return float(np.mean(self.losses))

    @property
    def interval(self) -> tuple[float, float] | None:
        """The bounds of the mean."""
        n = len(self.losses)
        if n < 2:
            return None
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.std(self.losses, ddof=1) / np.sqrt(n))
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class Setup:
    """A quantized function with its groups and ranges for all of their widths, and the batches to measure on.

    `states` are by bits, all tensors of groups that are not fixed having as many.
    """

    q: Quantized
    params: Any
    plan: Plan
    groups: tuple[Group, ...]
    states: Mapping[int, QuantState]
    batches: Sequence[Batch]
    loss: Loss

    @property
    def own(self) -> tuple[Width, ...]:
        """The width of each group by the function's recipe."""
        return tuple(group.own for group in self.groups)

    @property
    def widths(self) -> tuple[int, ...]:
        """The bits that there are ranges for."""
        return tuple(sorted(self.states))

    def state(self, choices: Sequence[Choice]) -> QuantState:
        """The state of these choices, adopted for the recipe that has them."""
        q = replace(self.q, recipe=self.recipe(choices))
        return q.adopt(mixed(self.states, self.groups, choices))

    def recipe(self, choices: Sequence[Choice]) -> Any:
        """The recipe of these choices, layer by layer."""
        return recipe_of(self.plan, self.q.recipe, self.groups, choices)

    def losses(self, choices: Sequence[Choice], batches: Sequence[Batch] | None = None) -> np.ndarray:
        """The loss of each batch where the groups have these widths; a side without bits is in float."""
        filled, floats = [], {}
        for group, choice in zip(self.groups, choices, strict=True):
            now = choice or Width(None, None)
            filled.append(Width(now.weights or group.own.weights, now.activations or group.own.activations))
            for side in SIDES:
                floats |= dict.fromkeys(getattr(group, side), jnp.asarray(getattr(now, side) is None))
        ranges = mixed(self.states, self.groups, filled)
        run = functools.partial(_loss, self.q.program, self.loss, self.params, ranges, floats)
        batches = self.batches if batches is None else batches
        return np.asarray([float(run(inputs, target)) for inputs, target in batches])


def set_up(
    q: Quantized,
    params: Any,
    calibration: Sequence[Any],
    batches: Sequence[Batch],
    loss: Loss,
    widths: Sequence[int] = WIDTHS,
) -> Setup:
    """Calibrate every width of every group, on the inputs of `calibration`: ranges of least error depend on bits.

    `batches` are pairs of inputs and what the loss takes. Cost: a calibration for each of the widths. Raises
    `ValueError` for no batch, and for bits outside [2, 8].
    """
    if not batches or not len(calibration):
        raise ValueError("`batches` and `calibration` must hold a batch or more each.")
    if wrong := [bits for bits in widths if not (isinstance(bits, int) and MIN_BITS <= bits <= MAX_BITS)]:
        raise ValueError(f"`widths` must be whole numbers in [{MIN_BITS}, {MAX_BITS}], got {wrong[0]!r}.")
    plan = make_plan(q.fn, q.recipe, params, batches[0][0])
    groups = groups_of(plan)
    own = [group.own for group in groups]
    needed = {bits for one in own for bits in (one.weights, one.activations) if bits is not None} | {*widths}
    states = {}
    for bits in sorted(needed):
        choices = [Width(one.weights and bits, one.activations and bits) for one in own]
        at_bits = replace(q, recipe=recipe_of(plan, q.recipe, groups, choices))
        states[bits] = replace(at_bits.calibrate(params, calibration), observers={})
    on_device = [jax.device_put(batch) for batch in batches]
    return Setup(q, params, plan, groups=groups, states=states, batches=on_device, loss=loss)


def measure(setup: Setup, around: Sequence[Choice] | None = None) -> list[Change]:
    """The change of the loss for each group and each width, all others being as in `around` (None: as in the recipe).

    The bits of weights and of activations change one at a time; where a group is not in float, both of them to float as
    well. Cost: for each change two forward passes on each batch, as the integer and the float result of every site are
    computed.
    """
    around = list(setup.own if around is None else around)
    start = setup.losses(around)
    found = []
    for i, group in enumerate(setup.groups):
        for side, bits, choice in _steps(group, around[i], setup.widths):
            losses = setup.losses([*around[:i], choice, *around[i + 1 :]]) - start
            found.append(Change(group, side, bits, tuple(losses.tolist())))
    return found


def _steps(group: Group, now: Choice, widths: Sequence[int]) -> Iterator[tuple[Any, int | None, Choice]]:
    """Choices that differ from the present one: on one side, or in being in float."""
    start = now or Width(None, None)
    for side in SIDES:
        known = (getattr(group.own, side),) if group.fixed else widths
        different = (bits for bits in known if getattr(group, side) and bits != getattr(start, side))
        yield from ((side, bits, replace(start, **{side: bits})) for bits in different)
    if now is not None:
        yield "float", None, None


@functools.partial(jax.jit, static_argnums=(0, 1))
def _loss(
    program: Any, loss: Loss, params: Any, state: QuantState, floats: Any, inputs: tuple[Any, ...], target: Any
) -> jax.Array:
    return loss(partly_float(program, params, state, floats, inputs), target)


def partly_float(
    program: Any, params: Any, state: QuantState, floats: Mapping[str, jax.Array], inputs: tuple[Any, ...]
) -> Any:
    """The simulated function with those tensors in float whose flag, by key, is true; flags are data.

    A site with both operands quantized multiplies integers as ever; one with a float operand multiplies floats, the
    other's being those that its codes stand for.
    """
    plan = make_plan(program.fn, program.recipe, params, inputs)
    check_state(plan, state)
    leaves, engine, sites = jax.tree.leaves(params), engines.build(program.engine), plan.quantized

    def handler(c: Contraction, eqn: Any, arrays: list[Any], operands: Any, carried: Any, scope: Any):
        site = sites[c.location]
        integer = site_result(site, plan, engine, arrays, operands, train=False, scope=scope)
        values = _values(site, arrays, operands, scope, floats)
        some = jnp.any(jnp.stack([floats[key] for key in site.keys]))
        return jnp.where(some, bind(eqn, values)[0], integer), carried

    rewriting = Rewriting({at: s.contraction for at, s in sites.items()}, handler, plan.slices)
    args = [*leaves, *jax.tree.leaves(inputs)]
    out, _ = rewrite(rewriting, plan.jaxpr, args, all_operands(plan, leaves, state), {})
    return jax.tree.unflatten(plan.out_tree, out)


def _values(site: SitePlan, arrays: list[Any], operands: Any, scope: Any, floats: Mapping[str, jax.Array]) -> list[Any]:
    """The arrays that a site reads, those whose flag is not set as their codes give them."""
    values = list(arrays)
    for side, operand in enumerate(site.operands):
        if isinstance(operand, ActivationOperand):
            codes = scope[in_scope(operand, arrays[side])][1]
        elif isinstance(operand, WeightOperand):
            weight = operands[operand.key].quantized
            codes = placed_as(in_operand_layout(weight, operand.perm), arrays[side])
        else:
            continue
        dequantized = dequantize(codes, arrays[side].dtype)
        values[side] = jnp.where(floats[operand.key], arrays[side], dequantized)
    return values
