"""Safetensors: a model's values alone, to be served by this package; those of `qat.save` and of float models."""

from pathlib import Path
from typing import Any

from qat.core.convert import Converted
from qat.export.description import Description
from qat.export.exporter import Artifact, Exportable, Exporter, register
from qat.export.safetensors import load, serialized
from qat.export.trees import PARAMETERS, load_tree, tree_content

REMEDY = "Export the model again."


@register
def safetensors() -> Exporter:
    """Packed integer weights and the float values beside them, as `qat.save` writes them; parameters of a float model.

    There is no program in the file: `q.serve(qat.load(path), *inputs)` runs it.
    """
    return Exporter(".safetensors", _build, _load, packages=())


def _build(exportable: Exportable) -> Artifact:
    """Raises `ValueError` for parameters in a tree of other nodes than dicts, lists and tuples."""
    variables = exportable.variables
    if isinstance(variables, Converted):
        return Artifact(serialized(variables), notes=("Holds values and no program: `q.serve` runs them.",))
    notes = ("Holds parameters and no program: the float function runs them.",)
    return Artifact(tree_content(variables, PARAMETERS), notes=notes)


def _load(path: Path, description: Description) -> Any:
    """The converted tree, or the parameters of a float model."""
    return load(path) if description.recipe is not None else load_tree(path, PARAMETERS, REMEDY)
