"""A walk over the units of a function in their order, each seen with what the quantized units before it give.

Two sets of values stand at one line of the function, those of the float and of the quantized one, for as many examples
as the memory allows; they move on from unit to unit, so that each equation runs once in either and no activation is
kept longer than it is read.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from qat.core.evaluate import all_operands
from qat.core.operands import ActivationGrid, Operands, WeightValues
from qat.core.state import QuantState, base_grid, specs
from qat.ptq.blocks import Found, Unit
from qat.ptq.examples import Examples, Program, Values, advance, gather, program_of
from qat.ptq.method import Batches, Outcome, Subject
from qat.ptq.program import Flat
from qat.ptq.segment import Cut, cut
from qat.quantizers import quantizers

MEMORY = 2**30  # bytes of activations held at once
STEP_BYTES, FEWEST, MOST = 2**23, 4, 32  # of the largest value in one step, and the bounds of a batch chosen by it
Find = Callable[[Flat, Callable[[int, int], bool]], Found]


@dataclass(frozen=True)
class Prepared:
    """Start of a walk: the flat function, its units, the examples and the values of parameters alone."""

    program: Program
    found: Found
    examples: Examples
    constants: Values


@dataclass(frozen=True)
class Place:
    """Neighbouring units of one form that do not read each other, each with its `cut`, and all that they are computed
    from: parameters' `leaves` and the state as they are by now, values before the first in the float function (`exact`)
    and in the quantized one (`simulated`), and the values of quantized tensors by key, `operands`."""

    units: tuple[Unit, ...]
    cuts: tuple[Cut, ...]
    leaves: list[Any]
    state: QuantState
    exact: Values
    simulated: Values
    operands: Operands


@dataclass(frozen=True)
class Result:
    """The weights of a unit on their grids and the factors of ranges, by key, and the error of the unit's outputs with
    nearest rounding and with these."""

    weights: dict[str, Array]
    factors: dict[str, Array]
    nearest: float
    error: float


Visit = Callable[[Place], list[Result]]


@dataclass(frozen=True)
class Walk:
    """`find` gives the units, `start` the function that is called at each place. At most `samples` examples are seen,
    `batch` at a time (None: as `fitting_batch` has it), and at most `memory` bytes of their activations held. A walk
    that is `labelled` sees the targets too, and leaves room for the gradients of every unit's outputs."""

    find: Find
    start: Callable[[Subject, Prepared], Visit]
    samples: int
    batch: int | None
    labelled: bool = False
    memory: int = MEMORY

    def __post_init__(self) -> None:
        if isinstance(self.samples, bool) or not isinstance(self.samples, int) or self.samples < 1:
            raise ValueError(f"`samples` must be a whole number of at least 1, got {self.samples!r}.")

    def check(self, subject: Subject, params: Any, state: QuantState, inputs: tuple[Any, ...]) -> None:
        """Raise `ValueError` where the function has no unit, with the reasons."""
        del state
        examples = gather([inputs], None, 2, 0)
        program = program_of(subject.q, params, examples.inputs, examples.count)
        found = self.find(program.flat, program.cuttable)
        if not found.units:
            why = "; ".join(f"{name}: {reason}" for name, reason in list(found.left.items())[:5])
            raise ValueError(f"there is no layer to round by its results. {why or 'No site has a quantized weight'}.")

    def run(self, subject: Subject, params: Any, state: QuantState, batches: Batches) -> Outcome:
        """Parameters whose nearest rounding is the one chosen, and the state with the ranges chosen."""
        prepared = self._prepared(subject, params, batches)
        program, flat = prepared.program, prepared.program.flat
        leaves, tree = jax.tree.flatten(params)
        visit, operands_of = self.start(subject, prepared), _operands_of(flat)
        exact: Values = dict(zip(flat.inputs, map(jnp.asarray, jax.tree.leaves(prepared.examples.inputs)), strict=True))
        simulated, position, results = exact, 0, list[Result]()
        # Invariant: both sets of values are those live at `position`, and all weights before it are final.
        with shown(len(prepared.found.units)) as done:
            for units in _groups(flat, prepared.found.units):
                operands, start = operands_of(leaves, state.bare), units[0].start
                between = cut(flat, position, start)
                exact = advance(program, exact, between, start, prepared.constants)
                simulated = advance(program, simulated, between, start, prepared.constants, operands)
                cuts, position = tuple(cut(flat, unit.start, unit.stop) for unit in units), start
                for one in visit(Place(units, cuts, leaves, state, exact, simulated, operands)):
                    leaves, state = _placed(flat, one, leaves, state)
                    results.append(one)
                done(units[-1].path, len(units))
        return _outcome(prepared, jax.tree.unflatten(tree, leaves), state, results)

    def _prepared(self, subject: Subject, params: Any, batches: Batches) -> Prepared:
        # The first batch tells how many examples there is room for, so that no more are ever gathered.
        some = gather(batches[:1], None, self.batch or FEWEST, subject.seed)
        first = program_of(subject.q, params, some.inputs, some.count)
        batch = self.batch or fitting_batch(first)
        targets = subject.targets if self.labelled else None
        examples = gather(batches, targets, min(self.samples, max(self._room(first), batch)), subject.seed)
        program = program_of(subject.q, params, examples.inputs, min(batch, examples.count))
        fits = min(examples.count, self._room(program)) // program.batch
        examples = examples.first(max(fits, 1) * program.batch)
        found = self.find(program.flat, program.cuttable)
        return Prepared(program, found, examples, program.flat.constants(jax.tree.leaves(params)))

    def _room(self, program: Program) -> int:
        """The number of examples whose values fit the memory wherever the function is cut."""
        units = self.find(program.flat, program.cuttable).units
        places = {at for unit in units for at in (unit.start, unit.stop)}
        most = 3 * max((program.bytes_at(at) for at in places), default=0)  # of both functions, and the targets
        most += sum(program.bytes_at(unit.stop) for unit in units) if self.labelled else 0
        return self.memory // max(most, 1)


def fitting_batch(program: Program) -> int:
    """The power of two from 4 to 32 at which the largest value that has a row an example takes 8 MiB or less: 32 small
    images, 8 sentences of 128 tokens in a BERT 384 wide, 4 boards of 640 pixels."""
    largest = max((program.flat.sizes[v] for v in program.by_example), default=1) / program.batch
    fits = max(STEP_BYTES / max(largest, 1), 1)
    return min(max(2 ** math.floor(math.log2(fits)), FEWEST), MOST)


def _outcome(prepared: Prepared, params: Any, state: QuantState, results: list[Result]) -> Outcome:
    units = prepared.found.units
    better = [one.error < one.nearest for one in results]
    kept = {unit.path: "nothing better than nearest rounding was found" for unit in units}
    left = {unit.path: kept[unit.path] for unit, won in zip(units, better, strict=True) if not won}
    ratios = [one.error / one.nearest if one.nearest > 0 else 1.0 for one in results]
    figures = {
        "examples": prepared.examples.count,
        "batch": prepared.program.batch,
        "units": len(units),
        "error_ratio": float(np.mean(ratios)) if ratios else 1.0,
    }
    changed = tuple(unit.path for unit, won in zip(units, better, strict=True) if won)
    return Outcome(params, state, changed, {**prepared.found.left, **left}, figures)


def _placed(flat: Flat, one: Result, leaves: list[Any], state: QuantState) -> tuple[list[Any], QuantState]:
    """Parameters and state with the result of one unit."""
    leaves, clips = list(leaves), dict(state.clips)
    for key, values in one.weights.items():
        leaf = flat.plan.weights[key].leaf
        assert leaf is not None
        leaves[leaf] = values.astype(jax.typeof(leaves[leaf]).dtype)
    for key, factor in one.factors.items():
        clip = clips[key]
        assert clip.low is not None and clip.high is not None
        clips[key] = replace(clip, low=clip.low * factor, high=clip.high * factor)
    return leaves, replace(state, clips=clips)


def _groups(flat: Flat, units: tuple[Unit, ...]) -> list[tuple[Unit, ...]]:
    """Units that learn together: neighbours of one form, all of whose inputs are there before the first."""
    groups: list[tuple[Unit, ...]] = []
    for unit in units:
        here, first = cut(flat, unit.start, unit.stop), groups[-1][0] if groups else unit
        alike = bool(groups) and cut(flat, first.start, first.stop).segment == here.segment
        if alike and all(flat.written[v] < first.start for v in here.inputs):
            groups[-1] = (*groups[-1], unit)
        else:
            groups.append((unit,))
    return groups


def _operands_of(flat: Flat) -> Callable[[list[Any], QuantState], Operands]:
    """The values of quantized tensors, from parameters and state: less what only gradients need, but for sites inside
    of loops."""
    flat_keys = {key for s in flat.sites.values() for key in s.keys}
    whole = {key for s in flat.plan.quantized.values() for key in s.keys} - flat_keys

    def lean(one: WeightValues | ActivationGrid) -> WeightValues | ActivationGrid:
        return one.served if isinstance(one, ActivationGrid) else WeightValues(one.quantized)

    @jax.jit
    def run(leaves: list[Any], state: QuantState) -> Operands:
        found = all_operands(flat.plan, leaves, state)
        return {key: one if key in whole else lean(one) for key, one in found.items()}

    return run


def weight_grid(flat: Flat, key: str, state: QuantState) -> Any:
    """The grid of a weight of static range."""
    spec, _, ndim = specs(flat.plan)[key]
    base = base_grid(spec, state.clips[key], ndim)
    return quantizers.build(spec.quantizer).grid(base, state.learned.get(key, {}))


@contextlib.contextmanager
def shown(units: int) -> Iterator[Callable[[str, int], None]]:
    """A function of the last unit done and how many that moves a line on a terminal, and is silent elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _path, _count: None
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("round", total=units)
        yield lambda path, count: progress.update(task, advance=count, description=f"round {path}")
