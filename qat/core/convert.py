"""Conversion: weights are computed from the parameters once and stored as integers, without a float copy."""

import math
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from qat.core.evaluate import activation_operands, run, weight_operands
from qat.core.jaxpr import abstract, bind, evaluate, used_inputs
from qat.core.operands import ActivationGrid, ActivationOperand, Operands, WeightValues
from qat.core.plan import Plan, make_plan
from qat.core.ranges import refuse_nan, refuse_not_finite, warn_of_stale
from qat.core.state import QuantState, activations, check_state, require_state
from qat.core.tensors import Weight
from qat.core.weights import is_far_outside, reduced_shape, weight_values
from qat.engines import engines
from qat.numerics import WITH_ZERO_POINT, QTensor

SMALL = 4096  # elements; arrays up to this size are joined into one


@dataclass(frozen=True)
class Layout:
    """The places of a tree's leaves in joint arrays: for each the dtype of the joint array that holds it (None where it
    is alone) and its shape.
    """

    tree: Any
    leaves: tuple[tuple[str | None, tuple[int, ...]], ...]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.tree, self.leaves))


@partial(jax.tree_util.register_dataclass, data_fields=("joint", "alone"), meta_fields=("layout",))
@dataclass(frozen=True)
class Bundle:
    """A tree of arrays whose small arrays are concatenated, into one array for each dtype."""

    joint: dict[str, Array]
    alone: list[Array]
    layout: Layout


def bundle(tree: Any) -> Bundle:
    """The tree with its small arrays joined; none is while jax traces, or where arrays lie on several devices."""
    leaves, structure = jax.tree.flatten(tree)
    joins = _on_one_device(leaves)
    names = [x.dtype.name if joins and _is_small(x) else None for x in leaves]
    small: dict[str, list[Array]] = {}
    for name, x in zip(names, leaves, strict=True):
        if name:
            small.setdefault(name, []).append(x)
    with jax.ensure_compile_time_eval():  # a stored bundle must hold no value of the trace in which it was made
        joint = {name: jnp.concatenate([jnp.ravel(x) for x in xs]) for name, xs in small.items()}
    layout = Layout(structure, tuple((name, np.shape(x)) for name, x in zip(names, leaves, strict=True)))
    return Bundle(joint, [x for name, x in zip(names, leaves, strict=True) if name is None], layout)


def _is_small(x: Any) -> bool:
    return isinstance(getattr(x, "dtype", None), np.dtype) and x.size <= SMALL


def _on_one_device(leaves: list[Any]) -> bool:
    if any(isinstance(x, Tracer) for x in leaves):
        return False
    return len({device for x in leaves if isinstance(x, jax.Array) for device in x.devices()}) == 1


def unbundle(bundled: Bundle) -> Any:
    """The tree that was bundled."""
    alone, read, leaves = iter(bundled.alone), dict.fromkeys(bundled.joint, 0), []
    for name, shape in bundled.layout.leaves:
        if name is None:
            leaves.append(next(alone))
            continue
        start, size = read[name], math.prod(shape)
        leaves.append(jax.lax.slice(bundled.joint[name], (start,), (start + size,)).reshape(shape))
        read[name] = start + size
    return jax.tree.unflatten(bundled.layout.tree, leaves)


@dataclass(frozen=True)
class Structure:
    """A tree's structure with the shapes and dtypes of its leaves: enough to trace a function, without values."""

    tree: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.tree, self.leaves))

    @property
    def abstract(self) -> Any:
        """The tree with abstract leaves."""
        return jax.tree.unflatten(self.tree, self.leaves)


def structure_of(tree: Any) -> Structure:
    """The structure of a tree of arrays."""
    leaves, treedef = jax.tree.flatten(tree)
    return Structure(treedef, tuple(abstract(leaf) for leaf in leaves))


@partial(
    jax.tree_util.register_dataclass, data_fields=("leaves", "weights", "grids", "recipe"), meta_fields=("structure",)
)
@dataclass(frozen=True)
class Converted:
    """A function's parameters with its weights in integers: what `serve` needs, and nothing else.

    `leaves` are the parameters that the served function still reads in float (biases, norms), `weights` the integers,
    and `grids` the grids of activations: for a dynamic range, its codes. No quantized weight has a float copy. `recipe`
    is the label of the state's recipe, as in `QuantState`.
    """

    leaves: dict[str, Array]
    weights: dict[str, QTensor]
    grids: dict[str, ActivationGrid]
    _: KW_ONLY
    structure: Structure
    recipe: Array | np.ndarray | None = None

    @cached_property
    def bundles(self) -> tuple[dict[str, Array], Bundle]:
        """Pack the model into fewer arrays, which `serve` passes to the compiled function faster. The float leaves stay
        apart: the code around them must be compiled as in `simulate`.
        """
        return self.leaves, bundle((self.weights, self.grids))


@partial(jax.jit, static_argnums=(0, 1))
def _integers(
    program: Any, like: Structure, params: Any, state: QuantState
) -> tuple[dict[str, QTensor], dict[str, ActivationGrid], dict[str, Array]]:
    """Integer weights, grids of activations, and a flag for each weight that lies far outside of its range."""
    plan, leaves = make_plan(program.fn, program.recipe, params, like.abstract), jax.tree.leaves(params)
    weights = {key: one.quantized for key, one in weight_operands(plan, leaves, state).items()}
    weights = {key: replace(q, bits=_bits(state.clips[key].qmax) - int(q.odd)) for key, q in weights.items()}
    grids = {key: one.served for key, one in activation_operands(plan, state).items()}
    fixed = {key: w for key, w in plan.weights.items() if not w.spec.dynamic and key not in state.learned}
    values = weight_values(plan, leaves)
    bounds = {key: (state.clips[key].low, state.clips[key].high) for key in fixed}
    return weights, grids, {key: is_far_outside(w, values[key], *bounds[key]) for key, w in fixed.items()}


def _bits(qmax: Array) -> Array:
    """The bits that codes need whose largest is 2**(bits - 1) - 1; odd ones need one less."""
    return 32 - jax.lax.clz(jnp.max(qmax) + 1)


def convert(program: Any, params: Any, state: QuantState, inputs: tuple[Any, ...]) -> Converted:
    """The served form of `params`; of `inputs` only shapes and dtypes count, and those of later calls may differ.

    Raises `ValueError` for a weight that is not finite or another parameter that is NaN; warns of a weight far
    outside of its calibrated range.
    """
    require_state(state)
    label, state = state.recipe, state.bare
    plan = make_plan(program.fn, program.recipe, params, inputs)
    check_state(plan, state)
    weights, grids, stale = _integers(program, structure_of(inputs), params, state)
    refuse_not_finite(weights, grids)
    warn_of_stale(stale)
    converted = Converted({}, weights, grids, structure=structure_of(params), recipe=label)
    _, used = _served_jaxpr(program, plan, converted, inputs)
    leaves = {path: leaf for path, leaf, u in zip(plan.leaves, jax.tree.leaves(params), used, strict=False) if u}
    refuse_nan(leaves)
    return replace(converted, leaves=leaves)


def _served_jaxpr(program: Any, plan: Plan, converted: Converted, inputs: tuple[Any, ...]) -> tuple[Any, list[bool]]:
    """The served function on (all float leaves, weights, grids, inputs), without dead code, and which of these it
    reads."""

    def served(leaves: Any, weights: dict[str, QTensor], grids: dict[str, ActivationGrid], inputs: tuple[Any, ...]):
        operands: Operands = {key: WeightValues(replace(q, bits=None)) for key, q in weights.items()}
        args, engine = [*leaves, *jax.tree.leaves(inputs)], engines.build(program.serving)
        return run(plan, engine, args, operands | grids, train=False, check_nan=program.check_nan)[0]

    jaxpr = jax.make_jaxpr(served)(converted.structure.leaves, converted.weights, converted.grids, inputs)
    return used_inputs(jaxpr)


def serve(program: Any, converted: Converted, inputs: tuple[Any, ...]) -> Any:
    """The function's result from integer weights; the float parameters that conversion dropped are not read."""
    return _serve(program, converted.structure, *converted.bundles, inputs)


@partial(jax.jit, static_argnums=(0, 1))
def _serve(program: Any, structure: Structure, leaves: dict[str, Array], rest: Bundle, inputs: tuple[Any, ...]) -> Any:
    weights, grids = unbundle(rest)
    served = served_program(program, Converted(leaves, weights, grids, structure=structure), inputs)
    args = [*served.constants, *served.read_of(inputs)]
    out = evaluate(served.jaxpr, args, lambda _, eqn, args: bind(eqn, args))
    return jax.tree.unflatten(served.out_tree, out)


@dataclass(frozen=True)
class Served:
    """A served function: its jaxpr on the arrays of the converted tree that it reads (`constants`), and on those leaves
    of its inputs that are `read`; and the structure of its result."""

    jaxpr: Any
    constants: list[Any]
    _: KW_ONLY
    read: list[bool]
    out_tree: Any

    def read_of(self, inputs: tuple[Any, ...]) -> list[Any]:
        """The leaves of the inputs that the jaxpr reads."""
        return [x for x, read in zip(jax.tree.leaves(inputs), self.read, strict=True) if read]


def served_program(program: Any, converted: Converted, inputs: tuple[Any, ...]) -> Served:
    """The served function at the shapes of `inputs`, without dead code. Raises `ValueError` for a converted tree of
    another function or recipe, or of other shapes."""
    plan = make_plan(program.fn, program.recipe, converted.structure.abstract, inputs)
    _check_keys(plan, converted)
    alive, used = _served_jaxpr(program, plan, converted, inputs)
    constants = [
        *(converted.leaves.get(path) for path in plan.leaves),
        *jax.tree.leaves((converted.weights, converted.grids)),
    ]
    missing = [path for path, u in zip(plan.leaves, used, strict=False) if u and path not in converted.leaves]
    if missing:
        raise ValueError(
            f"at these input shapes the function reads {', '.join(missing[:3])} in float, which conversion "
            "dropped. Convert with inputs of this shape."
        )
    kept = [x for x, u in zip(constants, used, strict=False) if u]
    return Served(alive, kept, read=used[len(constants) :], out_tree=plan.out_tree)


def _check_keys(plan: Plan, converted: Converted) -> None:
    want, have = {*plan.weights, *activations(plan)}, {*converted.weights, *converted.grids}
    missing = sorted(want - have)
    unexpected = sorted(
        key for key in have - want if key.split("~")[0] not in want
    )  # earlier versions stored copies of shared weights
    if missing or unexpected:
        raise ValueError(
            f"the converted tree is of another function or recipe: missing {missing[:3]}, unexpected {unexpected[:3]}. "
            "Where the function has other sites at other input shapes (a branch on a length, an associative scan), "
            "calibrate and convert with inputs of the shapes to serve."
        )
    other = [key for key, w in plan.weights.items() if not _fits_weight(w, converted.weights[key])]
    other += [key for key, (_, a) in activations(plan).items() if not _fits_activation(a, converted.grids[key])]
    if other:
        raise ValueError(
            f"the converted tree is of another recipe: {other[0]!r} has another kind of grid or other scales. "
            "Convert with the recipe that serves it."
        )


def _fits_weight(w: Weight, q: QTensor) -> bool:
    return (
        q.scale.shape == reduced_shape(w)
        and q.odd == (w.spec.grid == "midrise")
        and ((q.zero_point is None) == (w.spec.grid not in WITH_ZERO_POINT))
    )


def _fits_activation(a: ActivationOperand, one: ActivationGrid) -> bool:
    if a.spec.dynamic or one.grid is None:
        return a.spec.dynamic == (one.grid is None)
    same = (one.grid.zero_point is None) == (a.spec.grid not in WITH_ZERO_POINT)
    return same and one.grid.odd == (a.spec.grid == "midrise")
