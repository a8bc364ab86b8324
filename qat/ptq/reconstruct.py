"""Reconstruction: rounding learned by gradients, unit by unit, so that each gives what it gives in float.

Neighbouring units alike that do not read each other (query, key and value) learn together, by `vmap`; units of equal
form further apart share one compiled program.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from qat.core.operands import ActivationGrid, ActivationOperand, WeightValues
from qat.core.state import QuantState
from qat.numerics import dequantize
from qat.ptq.blocks import Unit
from qat.ptq.examples import float_outputs, operands_here
from qat.ptq.method import Method, Subject
from qat.ptq.program import Flat
from qat.ptq.segment import Cut
from qat.ptq.soft_rounding import Rounded, Settings, Task, learn
from qat.ptq.streaming import Find, Place, Prepared, Result, Visit, Walk, weight_grid

Weigh = Callable[[Subject, Prepared], dict[str, tuple[Any, ...]]]
"""From the float function on the examples: arrays in the shape of each unit's outputs, by the unit's path."""


def reconstruction(find: Find, settings: Settings, samples: int, weigh: Weigh | None = None) -> Method:
    """The method that learns the rounding of the units that `find` gives, on at most `samples` examples. `weigh` says
    by how much the error of each element of the outputs counts, from a loss; without it all count alike."""
    labelled = weigh is not None
    walk = Walk(find, partial(_start, settings, weigh), samples, settings.batch, labelled)
    return Method(walk.run, needs=("loss", "targets") if labelled else (), check=walk.check, rounds=True)


def _start(settings: Settings, weigh: Weigh | None, subject: Subject, prepared: Prepared) -> Visit:
    importance = {} if weigh is None else weigh(subject, prepared)
    key = jax.random.key(subject.seed)
    settings = replace(settings, batch=prepared.program.batch)

    def visit(place: Place) -> list[Result]:
        flat, first = prepared.program.flat, place.units[0]
        learned = _ranges(flat, first, place.cuts[0], place.state) if settings.range_rate else ()
        tasks = [
            _task(prepared, place, unit, here, importance.get(unit.path, ()))
            for unit, here in zip(place.units, place.cuts, strict=True)
        ]
        keys = jax.random.split(jax.random.fold_in(key, first.start), len(tasks))
        found = _learned(settings, place.cuts[0], learned, tasks, keys)
        return [_result(here, one) for here, one in zip(place.cuts, found, strict=True)]

    return visit


def _result(here: Cut, one: Rounded) -> Result:
    weights, factors = ({here.keys[name]: x for name, x in part.items()} for part in (one.weights, one.factors))
    return Result(weights, factors, float(one.nearest), float(one.error))


def _learned(settings: Settings, here: Cut, learned: tuple[str, ...], tasks: list[Task], keys: Any) -> list[Rounded]:
    # Several convolutions at once are one of many groups, which takes longer than one after the other.
    if len(tasks) == 1 or any(s.contraction.op == "conv" for s in here.segment.sites.values()):
        return [learn(here.segment, settings, learned, *one) for one in zip(tasks, keys, strict=True)]
    together = learn(here.segment, settings, learned, jax.tree.map(lambda *xs: jnp.stack(xs), *tasks), keys)
    return [jax.tree.map(lambda x, i=i: x[i], together) for i in range(len(tasks))]


def _task(prepared: Prepared, place: Place, unit: Unit, here: Cut, importance: tuple[Any, ...]) -> Task:
    flat, local = prepared.program.flat, operands_here(here, place.operands)
    fixed = tuple(prepared.constants[v] for v in here.constants)
    inputs = tuple(place.exact[v] for v in here.inputs)
    names = {name: key for name, key in here.keys.items() if key in unit.weights}
    grids = {name: weight_grid(flat, key, place.state) for name, key in names.items()}
    own = {name for s in here.segment.sites.values() for name in s.keys}
    leaves = {name: place.leaves[flat.plan.weights[key].leaf or 0] for name, key in names.items()}
    activations = {name: one for name, one in local.items() if name in own and isinstance(one, ActivationGrid)}
    others = {name: one for name, one in local.items() if name in own - names.keys() and isinstance(one, WeightValues)}
    return Task(
        inputs=tuple(place.simulated[v] for v in here.inputs),
        float_inputs=inputs,
        targets=float_outputs(here.segment, prepared.program.batch, inputs, fixed),
        importance=tuple(map(jnp.asarray, importance)),
        weights={name: jnp.asarray(leaf, jnp.float32) for name, leaf in leaves.items()},
        grids=grids | {name: one.grid for name, one in activations.items() if one.grid is not None},
        codes={name: one.codes for name, one in activations.items() if one.codes is not None},
        others={name: dequantize(one.quantized) for name, one in others.items()},
        nested={name: one for name, one in local.items() if name not in own},
        constants=fixed,
    )


def _ranges(flat: Flat, unit: Unit, here: Cut, state: QuantState) -> tuple[str, ...]:
    """The activations, by the segment's names, whose static range may learn: all that read them are in the unit."""
    inside = [s for i, s in flat.sites.items() if unit.start <= i < unit.stop]
    ids = {s.contraction.id for s in inside}
    elsewhere = {key for s in flat.plan.quantized.values() if s.contraction.id not in ids for key in s.keys}
    static = [a for s in inside for a in s.operands if isinstance(a, ActivationOperand) and not a.spec.dynamic]
    free = {a.key for a in static if a.key not in state.learned} - elsewhere
    return tuple(name for name, key in here.keys.items() if key in free)
