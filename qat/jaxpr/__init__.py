"""Find, name and rewrite the contractions of a function; knows no quantization.

The one package that needs jax's extend layer and its dead-code elimination (`layouts.py` says which).
"""

from qat.jaxpr.find import find, trace
from qat.jaxpr.known import known_operands
from qat.jaxpr.layouts import (
    abstract,
    bind,
    closes_over_tracers,
    evaluate,
    exceeds,
    laid_out_by_xla,
    placed,
    placed_as,
    used_inputs,
)
from qat.jaxpr.parts import Joined, by_parts, joined
from qat.jaxpr.rewrite import Rewriting, rewrite
from qat.jaxpr.sites import Contraction, Location, Operand, Origin, contracted, leaf_path

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
    "joined",
    "known_operands",
    "laid_out_by_xla",
    "leaf_path",
    "placed",
    "placed_as",
    "rewrite",
    "trace",
    "used_inputs",
]
