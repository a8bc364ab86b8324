"""The codes of every site's activations in one run of a model, served or simulated."""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qat.core.convert import Converted, Structure, structure_of
from qat.core.evaluate import activation, all_operands, run
from qat.core.jaxpr import bind, evaluate, placed_as, used_inputs
from qat.core.operands import ActivationGrid, ActivationOperand, Operands, WeightValues
from qat.core.plan import Plan, SitePlan, make_plan
from qat.core.state import QuantState
from qat.engines import engines
from qat.numerics import expand
from qat.transform import Quantized

type Place = tuple[str, int]
"""A site's id and the side of its operand: 0 is the left one."""


@dataclass(frozen=True)
class Seen:
    """A run of a model: its `outputs`, and where the run can be looked into the `codes` of each quantized activation.

    A site in a layer scan has an axis for each scan in front; of a loop's passes the last is seen. `margins` are the
    distances of values from the nearest boundary between two codes, in steps of the grid. `note` says what a reader
    must know of the run.
    """

    outputs: Any
    _: KW_ONLY
    codes: Mapping[Place, np.ndarray] = field(default_factory=dict)
    margins: Mapping[Place, np.ndarray] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Route:
    """A way to run a file. `run(inputs)` gives the outputs as the program does, and the codes that can be seen;
    `fed(inputs, served)` the codes that each site makes of the served inputs of the sites before it.

    `weights` says by site whether the integer weights in the file are the model's. `unseen` has the reason for each
    site that nobody can look at.
    """

    name: str
    about: str
    run: Callable[[tuple[Any, ...]], Seen]
    _: KW_ONLY
    fed: Callable[[tuple[Any, ...], Seen], Mapping[Place, np.ndarray]] | None = None
    weights: Mapping[str, bool] = field(default_factory=dict)
    unseen: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def plan_of(q: Quantized, converted: Converted, inputs: tuple[Any, ...]) -> Plan:
    """The plan of a quantized function for inputs of these shapes."""
    return make_plan(q.program.fn, q.program.recipe, converted.structure.abstract, inputs)


def served(q: Quantized, converted: Converted, inputs: tuple[Any, ...]) -> Seen:
    """The served run, looked into."""
    out, looked = _served(q.program, structure_of(inputs), replace(converted, recipe=None), inputs)
    return _seen(out, looked)


def simulated(q: Quantized, params: Any, state: QuantState, inputs: tuple[Any, ...]) -> Seen:
    """The simulated run, looked into."""
    return _seen(*_simulated(q.program, params, state.bare, inputs))


def _seen(out: Any, looked: Any) -> Seen:
    found = {(site, side): pair for site, sides in jax.device_get(looked).items() for side, pair in sides.items()}
    codes = {place: np.asarray(one) for place, (one, _) in found.items()}
    return Seen(jax.device_get(out), codes=codes, margins={place: np.asarray(one) for place, (_, one) in found.items()})


@partial(jax.jit, static_argnums=(0, 1))
def _served(program: Any, like: Structure, converted: Converted, inputs: tuple[Any, ...]) -> tuple[Any, Any]:
    plan = make_plan(program.fn, program.recipe, converted.structure.abstract, like.abstract)

    def looked_into(leaves: Any, weights: Any, grids: Any, inputs: tuple[Any, ...]) -> Any:
        operands: Operands = {key: WeightValues(replace(q, bits=None)) for key, q in weights.items()}
        args, engine = [*leaves, *jax.tree.leaves(inputs)], engines.build(program.serving)
        more = {"observe": _look, "carried": _nothing_seen(plan), "check_nan": program.check_nan}
        return run(plan, engine, args, operands | grids, train=False, **more)

    # As in `serve`, what only weights in float would be read for is dropped: a converted tree has none of these.
    rest = (converted.weights, converted.grids, inputs)
    jaxpr, shapes = jax.make_jaxpr(looked_into, return_shape=True)(converted.structure.leaves, *rest)
    alive, used = used_inputs(jaxpr)
    args = [*(converted.leaves.get(path) for path in plan.leaves), *jax.tree.leaves(rest)]
    flat = evaluate(alive, [x for x, u in zip(args, used, strict=True) if u], lambda _, eqn, args: bind(eqn, args))
    out, looked = jax.tree.unflatten(jax.tree.structure(shapes), flat)
    return jax.tree.unflatten(plan.out_tree, out), looked


@partial(jax.jit, static_argnums=0)
def _simulated(program: Any, params: Any, state: QuantState, inputs: tuple[Any, ...]) -> tuple[Any, Any]:
    plan = make_plan(program.fn, program.recipe, params, inputs)
    leaves = jax.tree.leaves(params)
    operands, args = all_operands(plan, leaves, state), [*leaves, *jax.tree.leaves(inputs)]
    more = {"observe": _look, "carried": _nothing_seen(plan), "check_nan": program.check_nan}
    out, looked = run(plan, engines.build(program.engine), args, operands, train=True, **more)
    return jax.tree.unflatten(plan.out_tree, out), looked


def _sides(site: SitePlan) -> list[int]:
    if site.reason is not None:
        return []
    return [side for side, operand in enumerate(site.operands) if isinstance(operand, ActivationOperand)]


def _nothing_seen(plan: Plan) -> dict[str, Any]:
    """Arrays for the codes and margins of each site, which the run fills."""
    found: dict[str, Any] = {}
    for site in plan.sites:
        c = site.contraction
        for side in _sides(site):
            shape = (*c.scan_lengths, *c.operands[side].shape)
            found.setdefault(c.id, {})[side] = (jnp.zeros(shape, jnp.int8), jnp.zeros(shape, jnp.float32))
    return found


def _look(site: SitePlan, arrays: list[Any], carried: Any, operands: Operands) -> tuple[Any, Operands]:
    seen = dict(carried)
    for side in _sides(site):
        operand, x = site.operands[side], arrays[side]
        assert isinstance(operand, ActivationOperand)
        values = placed_as(operands[operand.key], x)
        assert isinstance(values, ActivationGrid)
        _, q = activation(site.contraction, side, operand, x, values, train=False)
        steps = jax.lax.stop_gradient(x).astype(jnp.float32) * (1 / expand(q.scale, x.shape))
        seen[side] = (q.codes, jnp.abs(steps - jnp.floor(steps) - 0.5))
    return seen, operands
