"""Models as ONNX graphs: a float function, or a quantized one with the integers that `convert` gave."""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qat.core.convert import Converted
from qat.core.jaxpr import abstract, trace
from qat.core.plan import Plan, make_plan
from qat.export.onnx import contractions, indexing, powers, reductions, shapes  # noqa: F401  (they register lowerings)
from qat.export.onnx.biases import join_biases
from qat.export.onnx.context import Context, SiteOutputs
from qat.export.onnx.dims import Dims
from qat.export.onnx.fusion import note_float_convolutions
from qat.export.onnx.graph import Graph, Node, Root, onnx_dtype, remove_dead
from qat.export.onnx.patterns import join_patterns
from qat.export.onnx.proto import checked, model_proto, require_onnx, write
from qat.export.onnx.values import Value, constant, dropped, tensor
from qat.export.onnx.walk import run
from qat.transform import Quantized

OPSETS = (17, 21)
NAN = "`check_nan` is left out: where a site of static ranges reads NaN, the file gives numbers."


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX model (`proto`), checked; the tensors of its quantized sites by site id; the names of its inputs and
    outputs in the order of the function's leaves; and `notes` on what differs from the function.

    A site that a loop runs several times has an entry for each pass, its id followed by `@` and the pass's number.
    """

    proto: Any
    sites: dict[str, SiteOutputs]
    inputs: tuple[str, ...]
    _: KW_ONLY
    outputs: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write the model to a file, whole or not at all."""
        write(self.proto, Path(path))


def to_onnx(
    function: Callable[..., Any] | Quantized,
    params: Any,
    *inputs: Any,
    opset: int = 21,
    dynamic_batch: bool = False,
    four_bits: bool = True,
    float_biases: bool = False,
) -> OnnxModel:
    """The ONNX model of `function(params, *inputs)`, or of `q.serve(params, *inputs)` for a quantized function `q` and
    what `q.convert` returned; of `inputs` only shapes and dtypes count.

    Biases become integers at the scale of the sums of products, as runtimes want to fuse them: that rounding alone
    makes codes differ from the served ones, by one where a value is next to the boundary between two codes. With
    `float_biases` they stay in float, all codes are the served ones, and convolutions with a bias run in float.

    On x86 CPUs without VNNI instructions ONNX Runtime adds pairs of products of unsigned and signed codes in 16 bits,
    which saturate: `ort_session` makes a session that does not.

    With `dynamic_batch` the first axis of every input as long as that of the first is a symbolic batch. Weights of up
    to four bits whose activations stay in float are stored as INT4 from opset 21 on, with `four_bits`. Half precision
    is computed in float32. Raises `ValueError` that lists all primitives without a lowering, before anything is
    written.
    """
    require_onnx()
    _check(function, params, opset)
    symbolic = _symbolic(inputs) if dynamic_batch else inputs
    jaxpr, out_tree, plan = _traced(function, params, symbolic)
    graph = Graph(Root(opset))
    ctx = Context(graph, Dims(graph), run, plan=plan)
    if isinstance(params, Converted):
        ctx = replace(ctx, operands=_operands(params), bits=_bits(params) if four_bits else {})
    if isinstance(function, Quantized) and function.check_nan:
        graph.note(NAN)
    values = [*_parameters(params, plan), *_declared(ctx, symbolic)]
    outs = ctx.run(ctx, jaxpr, values, ())
    if ctx.missing:
        said = ", ".join(f"{name} (x{n})" if n > 1 else name for name, n in sorted(ctx.missing.items()))
        raise ValueError(
            f"the model has operations that the ONNX exporter does not write: {said}. Leave them out of the exported "
            "function, or export to StableHLO."
        )
    names = _finished(ctx, outs, out_tree, float_biases)
    proto = checked(model_proto(graph, "qat"))
    alive = {name for node in graph.nodes for name in node.outputs}
    joined = {node.output for node in graph.nodes if node.bias is not None}
    sites = {key: replace(s, with_bias=s.result in joined) for key, s in ctx.sites.items() if s.result in alive}
    note_float_convolutions(graph, sites)
    inputs_named = tuple(name for name, _, _ in graph.inputs)
    return OnnxModel(proto, sites, inputs_named, outputs=names, notes=tuple(graph.root.notes))


def _check(function: Any, params: Any, opset: int) -> None:
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise ValueError(f"`opset` must be in [{OPSETS[0]}, {OPSETS[1]}], got {opset!r}.")
    if isinstance(function, Quantized) and not isinstance(params, Converted):
        raise ValueError(
            f"`params` must be what `convert` returns for a quantized function, got {type(params).__name__}. "
            "Call `q.convert(params, state, *inputs)` first."
        )
    if not isinstance(function, Quantized) and isinstance(params, Converted):
        raise ValueError(
            "`params` is a converted tree, whose float weights are gone. Give the quantized function `q` that it was "
            "converted with, or the float parameters."
        )


def _symbolic(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs as abstract arrays with a symbolic batch."""
    leaves = [abstract(x) for x in jax.tree.leaves(inputs)]
    length = next((x.shape[0] for x in leaves if x.shape), None)
    if length is None:
        raise ValueError("`dynamic_batch` needs an input with a batch axis, and all inputs are single numbers.")
    (batch,) = jax.export.symbolic_shape("batch")

    def longer(x: Any) -> jax.ShapeDtypeStruct:
        x = abstract(x)
        shape = (batch, *x.shape[1:]) if x.shape and x.shape[0] == length else x.shape
        return jax.ShapeDtypeStruct(shape, x.dtype)

    return jax.tree.map(longer, inputs)


def _traced(function: Any, params: Any, inputs: tuple[Any, ...]) -> tuple[Any, Any, Plan | None]:
    inputs = jax.tree.map(abstract, inputs)
    if isinstance(function, Quantized):
        program = function.program
        plan = make_plan(program.fn, program.recipe, params.structure.abstract, inputs)
        unknown = [key for key in plan.weights if key not in params.weights]
        if unknown:
            raise ValueError(
                f"the converted tree is of another function or recipe: it has no weight {unknown[0]!r}. Convert with "
                "this function, this recipe and inputs of these shapes."
            )
        return plan.jaxpr, plan.out_tree, plan
    jaxpr, out_tree = trace(function, (params, *inputs))
    return jaxpr, out_tree, None


def _operands(converted: Converted) -> dict[str, Any]:
    """Integer weights and grids by key, as NumPy arrays."""
    weights = {key: replace(q, bits=None, totals=None) for key, q in converted.weights.items()}
    return jax.tree.map(np.asarray, {**weights, **converted.grids})


def _bits(converted: Converted) -> dict[str, int]:
    return {key: int(np.asarray(q.bits)) + q.odd for key, q in converted.weights.items() if q.bits is not None}


def _parameters(params: Any, plan: Plan | None) -> list[Value]:
    if plan is None:
        return [_constant(x) for x in jax.tree.leaves(params)]
    have, shapes_ = params.leaves, params.structure.leaves
    return [_constant(have[path]) if path in have else dropped(x) for path, x in zip(plan.leaves, shapes_, strict=True)]


def _constant(x: Any) -> Value:
    """A parameter; random keys, which no graph holds, are nowhere."""
    plain = not jax.numpy.issubdtype(jax.typeof(x).dtype, jax.dtypes.extended)
    return constant(np.asarray(x)) if plain else dropped(jax.typeof(x))


def _declared(ctx: Context, inputs: tuple[Any, ...]) -> list[Value]:
    """The graph's inputs."""
    found, used = [], jax.tree_util.tree_flatten_with_path(inputs)[0]
    names = _unique([_name("input", path, len(inputs)) for path, _ in used])
    for name, (_, leaf) in zip(names, used, strict=True):
        x = abstract(leaf)
        if jax.numpy.issubdtype(x.dtype, jax.dtypes.extended):
            raise ValueError(f"input {name!r} holds {x.dtype}, and ONNX has no random keys. Export evaluation.")
        ctx.graph.root.fresh(name)
        ctx.graph.inputs.append((name, onnx_dtype(x.dtype), ctx.dims.named(x.shape)))
        for axis, n in enumerate(x.shape):
            if str(n).isidentifier():
                ctx.dims.places.setdefault(str(n), (name, axis))
        found.append(tensor(name, x.shape, x.dtype))
    return found


def _name(stem: str, path: Sequence[Any], count: int) -> str:
    """A name from a path in a tree: its keys, or the stem with its places."""
    parts = [str(getattr(p, "key", getattr(p, "name", getattr(p, "idx", "")))) for p in path]
    words = [p for p in parts if not p.isdigit()]
    if words:
        return "_".join(words)
    return stem if count == 1 or not parts else f"{stem}_{'_'.join(parts)}"


def _unique(names: list[str]) -> list[str]:
    return [f"{name}_{names[:i].count(name)}" if name in names[:i] else name for i, name in enumerate(names)]


def _finished(ctx: Context, outs: list[Value], out_tree: Any, float_biases: bool) -> tuple[str, ...]:
    """Name the graph's results, join its compositions and drop what nothing reads."""
    graph = ctx.graph
    tree = jax.tree.unflatten(out_tree, list(range(len(outs))))
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
    names = _unique([_name("output", path, len(outs)) for path in paths])
    taken = {name for name, _, _ in graph.inputs}
    names = [f"{name}_out" if name in taken or name in graph.producers else name for name in names]
    made = [ctx.full(out) for out in outs]
    graph.outputs.extend(made)
    remove_dead(graph)
    join_patterns(graph)
    remove_dead(graph)
    join_biases(graph, as_integers=not float_biases)
    remove_dead(graph)
    finals = list(graph.outputs)
    graph.outputs.clear()
    for name, source, out in zip(names, finals, outs, strict=True):
        graph.add(Node("Identity", [source], [name]))
        graph.outputs.append(name)
        graph.output_types.append((out.dtype, ctx.dims.named(out.shape)))
    return tuple(names)
