"""Examples for reconstruction: some of each calibration batch, and their values at a cut of the function."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qat.core.evaluate import site_result
from qat.core.operands import Operands
from qat.core.plan import SitePlan, make_plan
from qat.engines import engines
from qat.ptq.program import Flat, flatten
from qat.ptq.segment import Cut, Segment
from qat.transform import Quantized

Values = dict[int, Any]
"""Arrays with a row an example, by the number of the value."""


@dataclass(frozen=True)
class Examples:
    """Rows of the function's inputs and of the targets: trees of arrays with a leading axis of `count` examples."""

    inputs: tuple[Any, ...]
    targets: Any
    count: int

    def first(self, count: int) -> "Examples":
        """The first `count` examples."""
        inputs, targets = jax.tree.map(lambda x: x[:count], (self.inputs, self.targets))
        return Examples(inputs, targets, count)


def gather(batches: Sequence[tuple[Any, ...]], targets: Sequence[Any] | None, samples: int, seed: int) -> Examples:
    """Gather at most `samples` examples, as many of each batch at random; where batches differ in shape, of the shape
    that has most.

    Raises `ValueError` where the arrays of a batch have no common leading axis of examples.
    """
    share, rng = math.ceil(samples / len(batches)), np.random.default_rng(seed)
    found: dict[Any, list[Any]] = {}
    for number, inputs in enumerate(batches):
        tree = (inputs, None if targets is None else targets[number])
        leaves = jax.tree.leaves(tree)
        rows = {np.shape(x)[0] if np.ndim(x) else -1 for x in leaves}
        if len(rows) != 1 or -1 in rows:
            raise ValueError(
                f"reconstruction takes batches whose arrays all have a leading axis of examples, got batch {number} "
                f"with shapes {[np.shape(x) for x in leaves]}. Pass what is none as a parameter or a constant keyword."
            )
        (size,) = rows
        chosen = np.sort(rng.permutation(size)[:share])
        form = tuple((np.shape(x)[1:], str(jax.typeof(x).dtype)) for x in leaves)
        found.setdefault(form, []).append(jax.tree.map(lambda x, at=chosen: np.asarray(x)[at], tree))
    most = max(found.values(), key=lambda trees: sum(len(jax.tree.leaves(tree)[0]) for tree in trees))
    inputs, wanted = jax.tree.map(lambda *xs: np.concatenate(xs)[:samples], *most)
    return Examples(inputs, wanted, len(jax.tree.leaves(inputs)[0]))


@dataclass(frozen=True)
class Program:
    """The flat function at `batch` examples, and the values whose leading axis is that of the examples."""

    flat: Flat
    batch: int
    by_example: frozenset[int]

    def cuttable(self, start: int, stop: int) -> bool:
        """Whether all that is live at both ends has a row an example."""
        return all(v in self.by_example for at in (start, stop) for v in self.flat.live(at))

    def bytes_at(self, position: int) -> int:
        """The size of what is live at a line, of one example."""
        return sum(self.flat.sizes[v] for v in self.flat.live(position)) // self.batch


def program_of(q: Quantized, params: Any, inputs: tuple[Any, ...], batch: int) -> Program:
    """The function at `batch` examples; a second size tells which axes are those of the examples."""

    def at(size: int) -> Flat:
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *np.shape(x)[1:]), jax.typeof(x).dtype), inputs)
        return flatten(make_plan(q.fn, q.recipe, params, like))

    flat, other = at(batch), at(batch + 1)
    if len(flat.lines) != len(other.lines) or len(flat.shapes) != len(other.shapes):
        return Program(flat, batch, frozenset())
    rows = zip(flat.shapes, other.shapes, strict=True)
    found = {
        v
        for v, (a, b) in enumerate(rows)
        if a and a[0] == batch and b[:1] == (batch + 1,) and a[1:] == b[1:] and v in flat.written
    }
    return Program(flat, batch, frozenset(found))


@partial(jax.jit, static_argnums=(0, 1))
def float_outputs(segment: Segment, batch: int, inputs: Any, constants: Any) -> Any:
    """Outputs of a segment in float for all examples, `batch` at a time."""
    return _by_batches(lambda xs: segment.run(xs, constants, None, None), batch, inputs)


@partial(jax.jit, static_argnums=(0, 1))
def integer_outputs(segment: Segment, batch: int, inputs: Any, constants: Any, operands: Operands) -> Any:
    """Outputs of a segment by integer products, as `simulate` has them."""
    engine = engines.build("integer")

    def run(xs: Any) -> Any:
        scope: dict[Any, Any] = {}

        def site(one: SitePlan, arrays: list[Any]) -> Any:
            return site_result(one, segment.plan, engine, arrays, operands, train=False, scope=scope)

        def inside(one: SitePlan, arrays: list[Any], operands: Operands, scope: Any) -> Any:
            return site_result(one, segment.plan, engine, arrays, operands, train=False, scope=scope)

        return segment.run(xs, constants, site, (inside, operands))

    return _by_batches(run, batch, inputs)


def _by_batches(run: Any, batch: int, inputs: Any) -> Any:
    def split(x: Any) -> Any:
        return x.reshape(x.shape[0] // batch, batch, *x.shape[1:])

    outs = jax.lax.map(run, jax.tree.map(split, inputs))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outs)


def operands_here(here: Cut, operands: Operands) -> Operands:
    """The values of tensors by the segment's own names."""
    return {name: operands[key] for name, key in here.keys.items()}


def advance(
    program: Program, values: Values, here: Cut, stop: int, constants: Values, operands: Operands | None = None
) -> Values:
    """The values live at `stop`, from those live where the cut begins: by integer products where `operands` are given,
    else in float."""
    inputs, fixed = tuple(values[v] for v in here.inputs), tuple(constants[v] for v in here.constants)
    if not here.segment.lines:
        outs = ()
    elif operands is None:
        outs = float_outputs(here.segment, program.batch, inputs, fixed)
    else:
        outs = integer_outputs(here.segment, program.batch, inputs, fixed, operands_here(here, operands))
    after = {**values, **dict(zip(here.outputs, outs, strict=True))}
    return {v: jnp.asarray(after[v]) for v in program.flat.live(stop)}
