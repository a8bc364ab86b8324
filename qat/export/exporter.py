"""The interface of an exporter, a function that turns a model into the content of a file, and its registry."""

import importlib.util
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp

from qat.core.convert import Converted
from qat.core.state import require_recipe
from qat.export import targets
from qat.registry import Registry, parse_call
from qat.transform import Quantized

type Batch = int | Literal["dynamic"]

DYNAMIC = "dynamic"
BATCH, LENGTH = "batch", "length"  # names of axes whose length the file leaves open


@dataclass(frozen=True)
class Exportable:
    """A model to export: a quantized function with its converted tree, or a float function of `(params, *inputs)` with
    its parameters.

    `inputs` are examples, arrays or abstract; their first axis is the batch, which the file has of the length `batch`
    or of any length ('dynamic'); None stands for any length where format and model can, else 1. `target` names the
    runtime that the file is for, None where no one is meant. `input_names` are one for each array among the inputs; by
    default they are those of the function's arguments. `about` is told beside the file, such as a task and its classes:
    plain values. `samples` are batches of inputs, each a tuple, for formats that measure ranges which the recipe lacks.
    """

    model: Quantized | Callable[..., Any]
    variables: Any
    inputs: tuple[Any, ...]
    _: KW_ONLY
    batch: Batch | None = None
    target: str | None = None
    input_names: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    samples: tuple[tuple[Any, ...], ...] = ()

    @property
    def recipe(self) -> str | None:
        """The label of a quantized model's recipe; None in float."""
        return self.model.label if isinstance(self.model, Quantized) else None

    def run(self, variables: Any, *inputs: Any) -> Any:
        """The model's outputs: served from integers where it is quantized."""
        if isinstance(self.model, Quantized):
            return self.model.program.serve(variables, *inputs)
        return self.model(variables, *inputs)


@dataclass(frozen=True)
class ArraySpec:
    """The shape and dtype of an array that goes into an exported program or comes out. An axis of open length has a
    name, such as 'batch', or an expression of names."""

    shape: tuple[int | str, ...]
    dtype: str


@dataclass(frozen=True)
class Artifact:
    """The content of an exported file, with its inputs and outputs by name where it is a program.

    `notes` are sentences for a reader, such as which quantizers the runtime needed in addition; `sites` has the name in
    the file of each of the model's sites that has one; `limits` are conditions on open lengths, such as
    `"length <= 64"`.
    """

    content: bytes
    inputs: Mapping[str, ArraySpec] = field(default_factory=dict)
    outputs: Mapping[str, ArraySpec] = field(default_factory=dict)
    _: KW_ONLY
    notes: tuple[str, ...] = ()
    sites: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exporter:
    """A file format: `build(exportable)` is pure and gives an `Artifact`; it raises `ValueError` for a model that the
    format cannot hold. `load(path, description)` reads such a file, whose content was checked against its description:
    a `Runnable` where the file is a program.

    A file's name ends in `suffix`. `packages` are modules that must be installed to build or load, `extra` the one of
    `jax-qat` that installs them. `dynamic` says whether the batch may be of any length.
    """

    suffix: str
    build: Callable[[Exportable], Artifact]
    load: Callable[[Path, Any], Any]
    _: KW_ONLY
    packages: tuple[str, ...] = ()
    extra: str = "export"
    dynamic: bool = True


@dataclass(frozen=True)
class Exported:
    """A file that was written: its path, the text that names its exporter, its bytes, and see `Artifact`."""

    path: Path
    kind: str
    bytes: int
    _: KW_ONLY
    notes: tuple[str, ...] = ()
    sites: Mapping[str, str] = field(default_factory=dict)


exporters: Registry[Exporter] = Registry("exporter")
"""Exporters by name."""
register = exporters.register
"""Make a function that returns an `Exporter` known under its name; use as a decorator."""


def check_exporters(texts: Sequence[str]) -> None:
    """Raise `ValueError` for text that is no sequence of exporters, an unknown one, settings that do not fit, and
    two of one name, whose files would have one name too."""
    if isinstance(texts, str):
        raise ValueError(f"`exports` must be a sequence of exporters, got the text {texts!r}. Write ({texts!r},).")
    for text in texts:
        exporters.build(text)
    names = [parse_call(text)[0] for text in texts]
    if len(set(names)) < len(names):
        raise ValueError(f"`exports` must name each exporter once, got {', '.join(texts)}.")


def ready(text: str, exportable: Exportable | None = None) -> Exporter:
    """The exporter that `text` names, which can work here.

    Raises `ValueError` for an unknown name, settings that do not fit, a package that is not installed, and a batch that
    the format cannot have.
    """
    found = exporters.build(text)
    missing = [name for name in found.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"exporter {text!r} needs the package {missing[0]}, which is not installed. Install what is missing: "
            f"pip install 'jax-qat[{found.extra}]'"
        )
    if exportable is not None and exportable.batch == DYNAMIC and not found.dynamic:
        raise ValueError(f"`batch` must be a number for the exporter {text!r}, got 'dynamic'. Give one, such as 1.")
    return found


def checked(exportable: Exportable) -> Exportable:
    """Check a model to export, and give its inputs as abstract arrays, each with a name.

    Raises `ValueError` for a model that is not of one of the two forms, a converted tree of another recipe, inputs
    without a common batch, a batch that is no length, and an unknown target.
    """
    model, variables, batch = exportable.model, exportable.variables, exportable.batch
    if isinstance(model, Quantized):
        if not isinstance(variables, Converted):
            raise ValueError(
                f"a quantized function is exported with what `convert` returns, got {type(variables).__name__}. "
                "Call `q.convert(params, state, *inputs)` first."
            )
        require_recipe("converted", variables.recipe, model.label)
    elif not callable(model) or isinstance(variables, Converted):
        raise ValueError(
            f"a model to export is a quantized function with its converted tree or a float function of (params, "
            f"*inputs) with its parameters, got {type(model).__name__} and {type(variables).__name__}."
        )
    if batch not in (None, DYNAMIC) and (not isinstance(batch, int) or isinstance(batch, bool) or batch < 1):
        raise ValueError(f"`batch` must be a number from 1 on or 'dynamic', got {batch!r}.")
    if exportable.target is not None:
        targets.build(exportable.target)
    inputs = jax.tree.map(_abstract, exportable.inputs)
    _check_batch(inputs)
    names = exportable.input_names or names_of_inputs(model, inputs)
    if len(names) != len(jax.tree.leaves(inputs)) or len(set(names)) < len(names):
        count = len(jax.tree.leaves(inputs))
        raise ValueError(f"`input_names` must be {count} different names, one for each input array, got {names}.")
    return replace(exportable, inputs=inputs, input_names=tuple(names))


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
    if isinstance(x, jax.ShapeDtypeStruct):
        return x
    known = jax.typeof(jnp.asarray(x))
    return jax.ShapeDtypeStruct(known.shape, known.dtype)


def _check_batch(inputs: tuple[Any, ...]) -> None:
    shapes = [leaf.shape for leaf in jax.tree.leaves(inputs)]
    if not shapes or not all(shapes) or len({shape[0] for shape in shapes}) > 1:
        raise ValueError(
            f"the inputs to export must be arrays with one batch as their first axis, got shapes {shapes}. Bind what "
            "has no batch into the function."
        )


def with_axes(exportable: Exportable, axes: Mapping[int, Any]) -> tuple[Any, ...]:
    """The abstract inputs with some axes of other lengths, where the input has as many: numbers, or symbolic
    dimensions."""

    def resized(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        shape = [axes.get(axis, length) for axis, length in enumerate(x.shape)]
        return jax.ShapeDtypeStruct(tuple(shape), x.dtype)

    return jax.tree.map(resized, exportable.inputs)


def names_of_inputs(model: Any, inputs: tuple[Any, ...]) -> list[str]:
    """A name for each array among the inputs: its key in a dict, else the argument's; joined where keys repeat."""
    fn = model.fn if isinstance(model, Quantized) else model
    try:
        taken = list(inspect.signature(fn).parameters.values())[1:]
    except (TypeError, ValueError):  # a callable without a signature, such as a compiled one
        taken = []
    stems = [one.name for one in taken if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    if len(stems) < len(inputs):
        stems = ["input"] if len(inputs) == 1 else [f"input_{i}" for i in range(len(inputs))]
    pairs = list(zip(stems, inputs, strict=False))
    short = [name for stem, tree in pairs for name in names_of(tree, stem)]
    if len(set(short)) == len(short):
        return short
    return [name if name == stem else f"{stem}_{name}" for stem, tree in pairs for name in names_of(tree, stem)]


def names_of(tree: Any, stem: str) -> list[str]:
    """A name for each leaf of a tree: its path of keys and fields, which starts with `stem` where it has none."""

    def name(path: Any) -> str:
        words = [jax.tree_util.keystr((key,), simple=True) for key in path]
        return "_".join([stem, *words] if not words or words[0].isdecimal() else words)

    return [name(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]


def specs_of(names: Iterable[str], arrays: Iterable[Any]) -> dict[str, ArraySpec]:
    """Shapes and dtypes by name; symbolic lengths as text."""
    return {
        name: ArraySpec(tuple(n if isinstance(n, int) else str(n) for n in x.shape), str(x.dtype))
        for name, x in zip(names, arrays, strict=True)
    }
