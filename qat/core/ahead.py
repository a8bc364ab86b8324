"""Serving compiled ahead of time: weights, scales and offsets are constants of the program, and so is all that they
decide.

XLA folds constants into each other in ways that round differently: `(x * a) * b` becomes `x * (a * b)`, and a root is
taken by another algorithm. So values that parameters decide are computed once by the program that `serve` would compute
them with, and float constants stand behind barriers: the rest of the program is the one of `serve`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from qat.core.arguments import described
from qat.core.convert import Converted, serve, served_program
from qat.core.jaxpr import abstract, bind, evaluate, is_literal, open_jaxpr

MOVING = {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "slice", "concatenate", "rev", "pad"}
EXACT = MOVING | {"gather", "dynamic_slice", "convert_element_type", "copy", "copy_p", "stop_gradient", "neg", "abs"}
EXACT |= {"max", "min", "clamp", "select_n", "div"}
"""Primitives that round their result in one way only, wherever they stand. A product does not: it may be fused with the
sum that reads it, into one operation that rounds once."""

BARRIER = "optimization_barrier"


@dataclass(frozen=True)
class Split:
    """A program's equations, by index, that are computed ahead (`ahead`) and when it is called (`later`), and the
    results of the first (or inputs) that the second read."""

    ahead: frozenset[int]
    later: frozenset[int]
    read: frozenset[Any]


def split(jaxpr: Any, known: Sequence[bool]) -> Split:
    """The split of a jaxpr, of whose inputs some are known."""
    inner, _ = open_jaxpr(jaxpr)
    constant = {v for v, k in zip(inner.invars, known, strict=True) if k} | set(inner.constvars)
    exact, makers, apart = set(constant), {}, set(constant)
    # Invariant: `constant` holds the values that constants decide, `exact` those of them that come out the same
    # wherever they are computed: what is before a barrier is computed apart in every program.
    for index, eqn in enumerate(inner.eqns):
        if eqn.effects or not all(is_literal(v) or v in constant for v in eqn.invars):
            continue
        constant.update(eqn.outvars)
        makers.update(dict.fromkeys(eqn.outvars, index))
        alike = eqn.primitive.name in EXACT or not any(_is_float(v) for v in eqn.outvars)
        apart.update(eqn.outvars if eqn.primitive.name == BARRIER else [])
        if eqn.primitive.name == BARRIER or (alike and all(is_literal(v) or v in exact for v in eqn.invars)):
            exact.update(eqn.outvars)
    decided = set(makers.values())
    unknown = [i for i in range(len(inner.eqns)) if i not in decided]
    ends = [v for v in inner.outvars if not is_literal(v) and v in constant]
    wanted = [*ends, *(v for i in unknown for v in inner.eqns[i].invars if not is_literal(v) and v in constant)]
    # What is rounded in one way or another is left with all that it reads: XLA then fuses it as it does in `serve`.
    read = {v for v in wanted if v in exact}
    inexact, ends = _back(inner, [v for v in wanted if v not in exact], makers, stop=apart)
    read |= ends
    ahead, _ = _back(inner, [v for v in read if v in makers], makers, stop=set())
    return Split(frozenset(ahead), frozenset({*unknown, *inexact}), frozenset(read))


def _back(inner: Any, wanted: list[Any], makers: dict[Any, int], stop: set[Any]) -> tuple[set[int], set[Any]]:
    """The equations that make the wanted values from those at which to stop, and which of these they start from."""
    needed: set[int] = set()
    ends, open_values, seen = set(), list(wanted), set()
    while open_values:
        v = open_values.pop()
        if v in seen:
            continue
        seen.add(v)
        if v in stop or v not in makers:
            ends.add(v)
            continue
        needed.add(makers[v])
        open_values += [read for read in inner.eqns[makers[v]].invars if not is_literal(read)]
    return needed, ends


def _is_float(v: Any) -> bool:
    return jnp.issubdtype(v.aval.dtype, jnp.floating)


@dataclass(frozen=True)
class Compiled:
    """A served function compiled with its constants, for inputs of one structure, shape and dtype; made by
    `q.compile`."""

    executable: Callable[..., Any]
    expected: tuple[Any, ...]

    def __call__(self, *inputs: Any, **arrays: Any) -> Any:
        """The function's result, equal to `serve`'s bit for bit. Raises `ValueError` for inputs of another form."""
        given = (*inputs, arrays) if arrays else inputs
        if (have := _forms(given)) != self.expected:
            raise ValueError(
                f"compiled for inputs {described(self.expected)}, got {described(have)}. "
                "Compile once for each shape, or use `q.serve`."
            )
        return self.executable(*given)


def _forms(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs' shapes and dtypes, as jax takes them."""

    def form(x: Any) -> jax.ShapeDtypeStruct:
        one = abstract(x)
        return jax.ShapeDtypeStruct(one.shape, jax.dtypes.canonicalize_dtype(one.dtype))

    return jax.tree.map(form, inputs)


def compile_served(program: Any, converted: Converted, inputs: tuple[Any, ...]) -> Compiled:
    """The served function at the shapes and dtypes of `inputs`, with all that `converted` holds as constants.

    Where `inputs` are arrays, the result is compared with that of `serve`; if XLA rounds differently around values that
    were computed ahead, none are. Raises `ValueError` where it does so around plain constants too.
    """
    concrete = not any(isinstance(x, jax.ShapeDtypeStruct | Tracer) for x in jax.tree.leaves(inputs))
    for computed_ahead in (True, False):
        compiled = _compiled(program, converted, _forms(inputs), computed_ahead)
        if not concrete or _same(compiled(*inputs), serve(program, converted, inputs)):
            return compiled
    raise ValueError(
        "compiled with constants, XLA rounds this function differently from `serve` on these inputs. Use `q.serve`."
    )


def _compiled(program: Any, converted: Converted, forms: tuple[Any, ...], computed_ahead: bool) -> Compiled:
    served = served_program(program, converted, forms)
    run = with_constants(served.jaxpr, served.constants, computed_ahead)

    def call(*inputs: Any) -> Any:
        return jax.tree.unflatten(served.out_tree, run(served.read_of(inputs)))

    return Compiled(jax.jit(call).lower(*forms).compile(), forms)


def _same(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


def with_constants(jaxpr: Any, constants: list[Any], computed_ahead: bool = True) -> Callable[[list[Any]], list[Any]]:
    """The outputs of `jaxpr`, whose first inputs are `constants`, as a function of the rest; with `computed_ahead` what
    constants decide is computed once."""
    inner, _ = open_jaxpr(jaxpr)
    count, rest = len(constants), len(inner.invars) - len(constants)
    parts = split(jaxpr, [computed_ahead and i < count for i in range(len(inner.invars))])
    read = frozenset(parts.read if computed_ahead else inner.invars[:count])
    made = [v for i in sorted(parts.ahead) for v in inner.eqns[i].outvars if v in parts.read]

    def ahead(given: list[Any]) -> list[Any]:
        found: dict[Any, Any] = {}

        def rule(index: int, eqn: Any, arrays: list[Any]) -> list[Any]:
            outs = bind(eqn, arrays) if index in parts.ahead else [None] * len(eqn.outvars)
            found.update(zip(eqn.outvars, outs, strict=True))
            return outs

        evaluate(jaxpr, [*given, *[None] * rest], rule)
        return [found[v] for v in made]

    values = dict(zip(made, map(np.asarray, jax.jit(ahead)(constants)), strict=True))
    whole = {v: np.asarray(x) for v, x in zip(inner.invars, constants, strict=False) if v in read}

    def call(inputs: list[Any]) -> list[Any]:
        given = {v: jax.lax.optimization_barrier(jnp.asarray(x)) for v, x in {**whole, **values}.items()}

        def rule(index: int, eqn: Any, arrays: list[Any]) -> list[Any]:
            return bind(eqn, arrays) if index in parts.later else [given.get(v) for v in eqn.outvars]

        return evaluate(jaxpr, [*map(given.get, inner.invars[:count]), *inputs], rule)

    return call
