"""Exports of a trial: its model, with what belongs around it, as files for other runtimes."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qat.export.exported import built, write
from qat.export.exporter import Batch, Exportable, ready
from qat.export.parity import Subject
from qat.lab.experiment.parity import certify_written
from qat.lab.experiment.training import Workload
from qat.lab.runs.manifest import Signature, signature_of
from qat.lab.runs.models import exported_file
from qat.registry import parse_call
from qat.tasks.detection.decode import detector
from qat.transform import Quantized

type Model = Quantized | Callable[..., Any]

INPUTS = {"classification": ("image",), "detection": ("image",), "text_classification": ("tokens", "mask")}
"""Names of the inputs of a model, by its task."""


def exportable_of(
    model: Model,
    variables: Any,
    inputs: tuple[Any, ...],
    signature: Signature,
    *,
    raw: bool = False,
    batch: Batch | None = None,
    target: str | None = None,
) -> Exportable:
    """A trial's model as it is exported: a detector with decoding and suppression, unless its `raw` outputs are wanted;
    any other model as it is. The task, its classes and the factor of pixels are told beside the file."""
    task = parse_call(signature.task)[0]
    decoded = task == "detection" and not raw
    names = INPUTS.get(task, ())
    about = {
        "task": signature.task,
        "classes": [signature.name(label) for label in range(signature.classes)],
        "scale": signature.scale,
        **({"decoded": decoded} if task == "detection" else {}),
    }
    return Exportable(
        _with_decoding(model) if decoded else model,
        variables,
        inputs,
        batch=batch,
        target=target,
        input_names=names if len(names) == len(jax.tree.leaves(inputs)) else (),
        about=about,
    )


def _with_decoding(model: Model) -> Model:
    """The detector whose network is the model. Decoding has no product, so that the sites stay as they are."""
    return replace(model, fn=_decoding(model.fn)) if isinstance(model, Quantized) else _decoding(model)


@functools.lru_cache
def _decoding(network: Callable[..., Any]) -> Callable[..., Any]:
    """One function for each network, so that it is compiled once."""
    return detector(network)


def write_exports(
    folder: Path, exports: Sequence[str], workload: Workload, model: Model, variables: Any, origin: tuple[Any, Any]
) -> tuple[dict[str, Any], ...]:
    """Write a measured model by each of these exporters into its trial's folder, and the certificate of each program's
    parity; for each what a record keeps of it. `origin` is what the model was converted from: variables and ranges."""
    accounts = []
    for kind in exports:
        path, exportable = exported_file(folder, kind), _exportable(workload, model, variables)
        written = write(path, exportable, kind)
        problem = certify_written(path, Subject(exportable, *origin), workload)
        notes = [*written.notes, *([] if problem is None else [problem])]
        accounts.append({"kind": kind, "file": path.name, "bytes": written.bytes, "notes": notes})
    return tuple(accounts)


def check_exports(workload: Workload, exports: Sequence[str]) -> None:
    """Raise `ValueError` for an exporter that cannot work here, and for a model that it cannot export in float.

    The model is built with zeros and not written.
    """
    for kind in exports:
        ready(kind)
    if not exports:
        return
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), workload.abstract_variables())
    for kind in exports:
        built(_exportable(workload, workload.functions.inference, zeros), kind)


def _exportable(workload: Workload, model: Model, variables: Any) -> Exportable:
    return exportable_of(model, variables, workload.example(), signature_of(workload.dataset))
