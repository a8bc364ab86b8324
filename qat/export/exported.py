"""Exported models on disk: files with descriptions beside them, written and read through the registry of exporters."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qat.export.description import check_same_model, describe, read_description, write_description
from qat.export.exporter import DYNAMIC, Artifact, Batch, Exportable, Exported, checked, ready
from qat.export.target_check import require_target
from qat.export.trees import refusing_damage
from qat.fileio import folder, write_atomically
from qat.transform import Quantized

REMEDY = "Export the model again."


def export_model(
    path: str | Path,
    model: Quantized | Callable[..., Any],
    variables: Any,
    *inputs: Any,
    to: str,
    batch: Batch | None = None,
    target: str | None = None,
    samples: Sequence[tuple[Any, ...]] = (),
) -> Exported:
    """Write a model as a file that other runtimes read, and beside it FILE.json, which describes it.

    `model` and `variables` are a quantized function with what `convert` returned, or a float function of `(params,
    *inputs)` with its parameters. `to` names the exporter, such as `"safetensors"` or `"stablehlo(length='fixed')"`;
    `batch` is a number or 'dynamic', by default 'dynamic' where format and model can, else 1; `target` the runtime that
    the file is for. Of `inputs` only shapes and dtypes count; `samples` are batches of inputs, each a tuple, from which
    a format measures ranges that the recipe lacks (litert does, of results). Raises `ValueError`, before anything is
    written, for a model that the format cannot hold.
    """
    return write(path, Exportable(model, variables, inputs, batch=batch, target=target, samples=tuple(samples)), to)


def write(path: str | Path, exportable: Exportable, to: str) -> Exported:
    """Write a model by the exporter that `to` names, with its description beside it; see `export_model`."""
    file = folder(path)
    if not file.parent.is_dir():
        raise ValueError(f"`path` must be in a folder that is there, got {str(file)!r}. Make the folder first.")
    if file.is_dir():
        raise ValueError(f"`path` must name a file, but {str(file)!r} is a folder.")
    exportable, artifact = built(exportable, to)
    description = describe(to, exportable, artifact)
    write_atomically(file, artifact.content)
    write_description(file, description)
    return Exported(file, to, description.bytes, notes=artifact.notes, sites=artifact.sites)


def built(exportable: Exportable, to: str) -> tuple[Exportable, Artifact]:
    """A model by the exporter that `to` names, with the batch that it was built for.

    Raises `ValueError` like the exporter, and for a recipe that does not suit the target.
    """
    exporter, exportable = ready(to, exportable), checked(exportable)
    if exportable.target is not None and isinstance(exportable.model, Quantized):
        require_target(exportable.model, exportable.variables, *exportable.inputs, target=exportable.target)
    if exportable.batch is not None:
        return exportable, exporter.build(exportable)
    refused = "the format has one batch" if not exporter.dynamic else None
    if refused is None:
        try:
            found = replace(exportable, batch=DYNAMIC)
            return found, exporter.build(found)
        except Exception as error:  # a model's own code may raise anything on a symbolic length
            refused = str(error).partition("\n")[0]
    found = replace(exportable, batch=1)
    artifact = exporter.build(found)
    return found, replace(artifact, notes=(*artifact.notes, f"The batch is 1: {refused}"))


def read(path: str | Path, variables: Any = None) -> Any:
    """An exported model: a `Runnable` where the file is a program, else what the format's own function loads.

    With `variables`, a converted tree or parameters, the file must have been exported from them. Raises `ValueError`
    for a file that is missing, cut off, changed, of another model or of a newer version, and where a package is missing
    that reads it.
    """
    file = folder(path)
    description = read_description(file)
    if variables is not None:
        check_same_model(file, description, variables)
    exporter = ready(description.kind)
    with refusing_damage(file, REMEDY):
        return exporter.load(file, description)
