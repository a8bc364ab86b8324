"""The transformation: `quantize(fn, recipe)` with `sites`, `calibrate`, `simulate`, `convert`, `serve`, `compile`."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any, TypeVar

import jax

from qat.core import calibrate as calibration
from qat.core import convert as conversion
from qat.core.ahead import Compiled, compile_served
from qat.core.arguments import Items, Keyworded, refuse_constants, split_keywords
from qat.core.calibrate import stream
from qat.core.convert import Converted
from qat.core.evaluate import all_operands, run
from qat.core.plan import make_plan
from qat.core.sites import Sites, describe
from qat.core.state import QuantState, as_characters, check_state, require_recipe, require_state
from qat.engines import USUAL, engines
from qat.numerics import ANY_BITS
from qat.recipes.presets import label
from qat.recipes.recipe import QuantRecipe, QuantRule, TensorSpec
from qat.runtime import keep_freed_memory_unless_told

Function = Callable[..., Any]
Made = TypeVar("Made", QuantState, Converted)


@dataclass(frozen=True)
class Program:
    """A unit of compilation: the function, its rules and the engines. Equal programs share their compiled code."""

    fn: Function
    recipe: QuantRecipe
    engine: str = USUAL
    serving: str = "integer"
    check_nan: bool = False

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.fn, self.recipe, self.engine, self.serving, self.check_nan))

    def simulate(self, params: Any, state: QuantState, *inputs: Any) -> Any:
        """The function's result with integer products and straight-through gradients."""
        require_state(state)
        return _simulate(self, params, state.bare, inputs)  # recipes that differ in bits and observers share the code

    def serve(self, converted: Converted, *inputs: Any) -> Any:
        """The function's result from integer weights."""
        _require_converted("serve", converted)
        keep_freed_memory_unless_told()
        return conversion.serve(self, converted, inputs)

    def compile(self, converted: Converted, *inputs: Any) -> Compiled:
        """`serve` with the converted tree as constants."""
        _require_converted("compile", converted)
        keep_freed_memory_unless_told()
        return compile_served(self, converted, inputs)


def _require_converted(method: str, converted: Any) -> None:
    if not isinstance(converted, Converted):
        raise ValueError(
            f"`{method}` needs what `convert` returns, got {type(converted).__name__}. "
            "Call `q.convert(params, state, *inputs)` first."
        )


@partial(jax.jit, static_argnums=0)
def _simulate(program: Program, params: Any, state: QuantState, inputs: tuple[Any, ...]) -> Any:
    plan = make_plan(program.fn, program.recipe, params, inputs)
    check_state(plan, state)
    leaves = jax.tree.leaves(params)
    operands, args = all_operands(plan, leaves, state), [*leaves, *jax.tree.leaves(inputs)]
    out, _ = run(plan, engines.build(program.engine), args, operands, train=True, check_nan=program.check_nan)
    return jax.tree.unflatten(plan.out_tree, out)


def _bare(spec: TensorSpec, keep_observers: bool) -> TensorSpec:
    return replace(spec, bits=ANY_BITS, observer=spec.observer if keep_observers else "minmax")


def _skeleton(recipe: QuantRecipe, keep_observers: bool) -> QuantRecipe:
    """The recipe with all that is data set to defaults: bit widths, and observers unless `keep_observers`."""

    def rule(r: QuantRule) -> QuantRule:
        weights, activations = (spec and _bare(spec, keep_observers) for spec in (r.weights, r.activations))
        return replace(r, weights=weights, activations=activations)

    first, last = (r and rule(r) for r in (recipe.first, recipe.last))
    rules = tuple(rule(r) for r in recipe.rules)

    def own(tensors: str) -> tuple[tuple[str, TensorSpec], ...]:
        """Specs of single layers; none where they differ from the rules' in bits alone."""
        found = tuple((pattern, _bare(spec, keep_observers)) for pattern, spec in getattr(recipe, tensors))
        usual = {getattr(r, tensors) for r in (first, last, *rules) if r is not None}
        return () if len(usual) == 1 and usual == {spec for _, spec in found} else found

    return QuantRecipe(rules, first, last, weights=own("weights"), activations=own("activations"), adds=recipe.adds)


@dataclass(frozen=True)
class Quantized:
    """A quantized function; made by `quantize`. Holds no arrays: parameters and state go in, results come out."""

    fn: Function
    recipe: QuantRecipe
    engine: str = USUAL
    serving: str = "integer"
    check_nan: bool = False

    @cached_property
    def program(self) -> Program:
        """The program that `simulate` and `serve` compile: equal for recipes that differ only in bit widths and
        observers.
        """
        return self._compiled(_skeleton(self.recipe, keep_observers=False))

    @cached_property
    def _exact(self) -> Program:
        return self._compiled(self.recipe)

    @cached_property
    def _observing(self) -> Program:
        return self._compiled(_skeleton(self.recipe, keep_observers=True))

    def _compiled(self, recipe: QuantRecipe) -> Program:
        return Program(self.fn, recipe, self.engine, self.serving, self.check_nan)

    @cached_property
    def label(self) -> str:
        """The name and digest of the recipe, as states and converted trees carry them."""
        return label(self.recipe)

    def with_keywords(self, keywords: Mapping[str, Any], *inputs: Any) -> tuple["Quantized", tuple[Any, ...]]:
        """The function with constant keyword arguments bound, and the inputs with a dict of its keyword arrays
        appended; without keywords both are unchanged."""
        refuse_constants(inputs)
        if not keywords:
            return self, inputs
        static, arrays = split_keywords(keywords)
        return _keyworded(self, static), (*inputs, arrays)

    def sites(self, params: Any, *inputs: Any, **keywords: Any) -> Sites:
        """Every contraction, look-up and quantized addition of the function, with its rule and bits or why it stays in
        float; prints as a table.

        Here and in the methods below `keywords` are keyword arguments of the function: trees of arrays, which are
        traced, and hashable constants such as `train=False`, for each value of which the function is compiled.
        """
        q, inputs = self.with_keywords(keywords, *inputs)
        return describe(make_plan(q.fn, self.recipe, params, inputs))

    def calibrate(self, params: Any, batches: Iterable[Any], **keywords: Any) -> QuantState:
        """The state after running the float function on all `batches`, each a tuple of inputs or the only input.

        Raises `ValueError` for no batch, batches of different structure, NaN or infinity at a site, and a site that no
        batch reached.
        """
        q, more = self.with_keywords(keywords)
        return self.adopt(calibration.calibrate(q._observing, q._exact, params, stream(batches, *more)))

    def adopt(self, made: Made) -> Made:
        """A state or converted tree of another recipe, labelled as one of this recipe, to mix the two on purpose. Its
        bits and ranges do not change."""
        return replace(made, recipe=as_characters(self.label))

    def check(self, state: QuantState) -> None:
        """Raise `ValueError` for a value that is no state, and for a state known to be of another recipe."""
        require_state(state)
        require_recipe("state", state.recipe, self.label)

    def simulate(self, params: Any, state: QuantState, *inputs: Any, observe: bool = False, **keywords: Any) -> Any:
        """The function's result in integer arithmetic, differentiable with respect to `params`, `state.learned` and
        `inputs`. With `observe` it first updates the ranges with these activations, and returns (result, state)."""
        self.check(state)
        q, inputs = self.with_keywords(keywords, *inputs)
        if not observe:
            return q.program.simulate(params, state, *inputs)
        out, updated = calibration.simulate_observing(q._observing, params, replace(state, recipe=None), inputs)
        return out, replace(updated, recipe=state.recipe)

    def convert(self, params: Any, state: QuantState, *inputs: Any, **keywords: Any) -> Converted:
        """The served form of `params`: integer weights, and those float parameters that the served function still
        reads."""
        self.check(state)
        q, inputs = self.with_keywords(keywords, *inputs)
        return conversion.convert(q.program, params, state, inputs)

    def serve(self, converted: Converted, *inputs: Any, **keywords: Any) -> Any:
        """The function's result from integer weights; equal to `simulate`'s bit for bit."""
        require_recipe("converted", getattr(converted, "recipe", None), self.label)
        q, inputs = self.with_keywords(keywords, *inputs)
        return q.program.serve(converted, *inputs)

    def compile(self, converted: Converted, *inputs: Any, **keywords: Any) -> Compiled:
        """`serve` compiled ahead, with the converted tree as constants: a function of inputs alone, bit for bit equal.

        It takes inputs of the structure, shapes and dtypes of `inputs` (which may be abstract), and keyword arrays
        again; constant keyword arguments are compiled in. All that the weights decide is computed once, here: sums of
        codes, norms that are folded, and the floats of weights that are multiplied in float (w8, w4), at four bytes a
        weight.
        """
        require_recipe("converted", getattr(converted, "recipe", None), self.label)
        q, inputs = self.with_keywords(keywords, *inputs)
        return q.program.compile(converted, *inputs)


@lru_cache(maxsize=64)
def _keyworded(q: Quantized, static: Items) -> Quantized:
    return replace(q, fn=Keyworded(q.fn, static))


def quantize(
    fn: Function, recipe: QuantRecipe, *, engine: str = USUAL, serving: str = "integer", check_nan: bool = False
) -> Quantized:
    """Transform `fn(params, *inputs)` so that its contractions and look-ups run on integers, as `recipe` says.

    `engine` multiplies in `simulate` ('aqt' where it is installed, else 'integer'), `serving` in `serve`; all engines
    give the same integers. NaN in parameters, and in activations of dynamic range, gives NaN; with `check_nan` NaN in
    activations of static range does too, at the cost of one pass over each.
    """
    if not callable(fn):
        raise ValueError(f"`fn` must be a function of (params, *inputs), got {type(fn).__name__}.")
    if not isinstance(fn, Hashable):
        raise ValueError(
            f"`fn` must be hashable to be compiled once, got a {type(fn).__name__} that is not. "
            "Give its bound method or a lambda."
        )
    if not isinstance(recipe, QuantRecipe):
        raise ValueError(f"`recipe` must be a QuantRecipe, got {recipe!r}. For a preset write qat.recipe('w8a8').")
    for name in (engine, serving):
        engines.build(name)
    return Quantized(fn, recipe, engine, serving, check_nan)
