"""LiteRT: a flatbuffer with integer operators for phones and small devices, of one batch."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qat.core.convert import Converted
from qat.export.description import Description
from qat.export.exporter import Artifact, Exportable, Exporter, names_of, register, specs_of, with_axes
from qat.export.formats.stablehlo import without_places
from qat.export.litert.annotate import Annotated, annotated, computed, measured
from qat.export.litert.converter import converter_python, to_flatbuffer
from qat.export.litert.results import float_results
from qat.export.runnable import Runnable
from qat.transform import Quantized

EXTRA = "litert"
SIGNATURE = "serving_default"
SHOWN = 5
CODES = (
    "LiteRT rounds results to integers without a float step between; codes differ from `serve` by one where they fall "
    "near a half, and symmetric activations may reach -128."
)


@register
def litert(threads: int = 1) -> Exporter:
    """A flatbuffer for LiteRT, converted by litert-converter in an environment of its own (QAT_LITERT_PYTHON).

    `threads` is the number with which `qat.export.read` runs it. An operator computes in integers where its result is
    quantized too: `samples` of the model to export give ranges to results that the recipe leaves in float.
    """
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise ValueError(f"`threads` must be a number from 1 on, got {threads!r}.")

    def load(path: Path, description: Description) -> Runnable:
        return _load(path, description, threads)

    return Exporter(".tflite", _build, load, packages=("ai_edge_litert",), extra=EXTRA, dynamic=False)


def _build(exportable: Exportable) -> Artifact:
    converter_python()
    inputs = with_axes(exportable, {0: exportable.batch})
    program, notes = _program(exportable, inputs)
    flat = jax.tree.leaves(inputs)
    tree = jax.tree.structure(inputs)

    def leaves(*given: Any) -> list[Any]:
        return jax.tree.leaves(program(*jax.tree.unflatten(tree, given)))

    outputs = jax.eval_shape(program, *inputs)
    names = names_of(outputs, "output")
    content = to_flatbuffer(_module(computed(leaves), flat), exportable.input_names, names)
    specs = specs_of(exportable.input_names, flat), specs_of(names, jax.tree.leaves(outputs))
    return Artifact(content, *specs, notes=notes)


def _program(exportable: Exportable, inputs: tuple[Any, ...]) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """The model as a function of its inputs, with quantizers as composites, and what to tell about it."""
    model, variables = exportable.model, exportable.variables
    if not isinstance(model, Quantized):
        return lambda *given: model(variables, *given), ()
    assert isinstance(variables, Converted)
    one = annotated(model, variables, *inputs)
    one = replace(one, places=float_results(one, *inputs))
    if not one.places:
        return one, (CODES,)
    if not exportable.samples:
        return replace(one, places=()), (CODES, _floats(one))
    one = replace(one, ranges=measured(one, exportable.samples))
    told = ", ".join(f"{key} [{low:.4g}, {high:.4g}]" for key, (low, high) in one.ranges.items())
    return one, (CODES, f"LiteRT quantizes these results too, on ranges of the samples: {told}.")


def _floats(one: Annotated) -> str:
    ids = [place.id for place in one.places]
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return (
        f"{len(ids)} sites run in float on quantized values, since their results are not quantized: "
        f"{', '.join(ids[:SHOWN])}{more}. Give `samples`, batches of inputs, for the ranges of these results."
    )


def _module(program: Callable[..., Any], inputs: list[Any]) -> bytes:
    """The StableHLO module of a function, lowered for CPUs, as MLIR's bytecode."""

    def lowered(*given: Any) -> Any:
        return jax.jit(program, keep_unused=True).trace(*given).lower(lowering_platforms=("cpu",))

    written = io.BytesIO()
    without_places(lowered, tuple(inputs)).compiler_ir("stablehlo").operation.write_bytecode(written)
    return written.getvalue()


def _load(path: Path, description: Description, threads: int) -> Runnable:
    """The flatbuffer run by LiteRT on the CPU; one output as it is, several as a dict by name."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=path.read_bytes(), num_threads=threads)
    runner = interpreter.get_signature_runner(SIGNATURE)

    def run(*inputs: Any) -> Any:
        arrays = map(np.asarray, jax.tree.leaves(inputs))
        found = runner(**dict(zip(description.inputs, arrays, strict=True)))
        ordered = {name: found[name] for name in description.outputs}
        return next(iter(ordered.values())) if len(ordered) == 1 else ordered

    return Runnable(description, run)
