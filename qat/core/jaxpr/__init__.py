"""Find, name and rewrite the contractions of a function; knows no quantization.

The one package that needs jax's extend layer and its dead-code elimination (`layouts.py` says which).
"""

from qat.core.jaxpr.contraction import Contraction, Location, Operand, Origin, contracted, leaf_path
from qat.core.jaxpr.find import find, trace
from qat.core.jaxpr.in_loops import in_loops, laid_out
from qat.core.jaxpr.layouts import (
    abstract,
    bind,
    closes_over_tracers,
    evaluate,
    exceeds,
    is_literal,
    laid_out_by_xla,
    open_jaxpr,
    placed,
    placed_as,
    used_inputs,
)
from qat.core.jaxpr.partial_eval import known_operands
from qat.core.jaxpr.parts import Joined, by_parts, joined
from qat.core.jaxpr.rewrite import Rewriting, rewrite

__all__ = [
    "Contraction",
    "Joined",
    "Location",
    "Operand",
    "Origin",
    "Rewriting",
    "abstract",
    "bind",
    "by_parts",
    "closes_over_tracers",
    "contracted",
    "evaluate",
    "exceeds",
    "find",
    "in_loops",
    "is_literal",
    "joined",
    "known_operands",
    "laid_out",
    "laid_out_by_xla",
    "leaf_path",
    "open_jaxpr",
    "placed",
    "placed_as",
    "rewrite",
    "trace",
    "used_inputs",
]
