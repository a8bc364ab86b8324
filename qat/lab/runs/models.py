"""Models of a run on disk: what a trial deploys (`model.safetensors`), what a stage leaves to those after it
(`artifact.safetensors`, and of a calibration `raised.json`, `allocation.json` and `ptq.json`)."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import deserialize
from safetensors.numpy import save as serialize

from qat.core.convert import Converted
from qat.export import safetensors
from qat.export.exporter import exporters
from qat.export.trees import REDO_STAGE, check_content, finished, load_tree, refusing_damage, save_tree
from qat.fileio import write_atomically
from qat.lab.runs.files import ALLOCATION_FILE, ARTIFACT_FILE, MODEL_FILE, PTQ_FILE, RAISED_FILE, REDO_TRIAL


def write_model(folder: Path, model: Any) -> int:
    """Write the model that a trial deploys, converted or float variables, and return the bytes that it takes."""
    content = safetensors.serialized(model) if isinstance(model, Converted) else serialized_variables(model)
    write_atomically(folder / MODEL_FILE, content)
    return len(content)


def model_file(folder: Path) -> Path:
    """The file of a trial's model. Raises `ValueError` where it is missing."""
    path = folder / MODEL_FILE
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is missing. {REDO_TRIAL}")
    return path


def read_converted(folder: Path) -> Converted:
    """The integer model of a quantized trial. Raises `ValueError` where it is missing or damaged."""
    return safetensors.load(model_file(folder))


def read_variables(folder: Path) -> Any:
    """The variables of a float trial's model. Raises `ValueError` where they are missing or damaged."""
    path = model_file(folder)
    with refusing_damage(path, REDO_TRIAL):
        content = path.read_bytes()
        check_content(io.BytesIO(content))
        arrays = {
            name: np.frombuffer(x["data"], _dtype(x["dtype"])).reshape(x["shape"]) for name, x in deserialize(content)
        }
        return unflatten_dict(arrays, sep="/")


def exported_file(folder: Path, kind: str) -> Path:
    """The file that a trial's model is exported to by the exporter that the text `kind` names."""
    return folder / f"exported{exporters.build(kind).suffix}"


OTHER_DTYPES = {"BF16": "bfloat16", "BOOL": "bool", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
USUAL_DTYPES = {"F": "float", "I": "int", "U": "uint"}


def _dtype(name: str) -> np.dtype:
    """A dtype by the format's name for it, such as F32; numpy itself does not know all of them."""
    return jnp.dtype(OTHER_DTYPES.get(name) or f"{USUAL_DTYPES[name[0]]}{name[1:]}")


def model_digest(folder: Path) -> str:
    """A digest of the file of a trial's model."""
    return hashlib.sha256(model_file(folder).read_bytes()).hexdigest()[:16]


def serialized_variables(variables: Any) -> bytes:
    """The file of a float trial's model: nested dicts of arrays, each array under its path."""
    flat = flatten_dict(variables, sep="/")
    return finished(serialize({name: np.asarray(leaf) for name, leaf in flat.items()}))


def write_result(folder: Path, tree: Any) -> None:
    """Write the arrays that a stage leaves, a tree of dicts, lists and tuples."""
    save_tree(folder / ARTIFACT_FILE, tree)


def read_result(folder: Path) -> Any:
    """The arrays that a stage left. Raises `ValueError` where they are damaged, `FileNotFoundError`."""
    return load_tree(folder / ARTIFACT_FILE)


def write_high_bit_layers(folder: Path, paths: Sequence[str]) -> None:
    """Write the paths of the layers that a calibration chose to have 8 bits."""
    write_atomically(folder / RAISED_FILE, json.dumps(list(paths)) + "\n")


def read_high_bit_layers(folder: Path) -> tuple[str, ...]:
    """The paths of the layers that a calibration chose to have 8 bits. Raises like `read_result`."""
    path = folder / RAISED_FILE
    with refusing_damage(path, REDO_STAGE):
        return tuple(json.loads(path.read_text(encoding="utf-8")))


def write_ptq_steps(folder: Path, steps: Sequence[Mapping[str, Any]]) -> None:
    """Write the accounts of the post-training methods that followed a calibration."""
    write_atomically(folder / PTQ_FILE, json.dumps(list(steps), indent=2) + "\n")


def read_ptq_steps(folder: Path) -> tuple[dict[str, Any], ...]:
    """The accounts of post-training methods. Raises like `read_result`."""
    path = folder / PTQ_FILE
    with refusing_damage(path, REDO_STAGE):
        return tuple(json.loads(path.read_text(encoding="utf-8")))


def write_allocation(folder: Path, found: Mapping[str, Any]) -> None:
    """Write the bits that a calibration chose within a budget: its recipe, the choice and the front."""
    write_atomically(folder / ALLOCATION_FILE, json.dumps(dict(found), indent=2) + "\n")


def read_allocation(folder: Path) -> dict[str, Any] | None:
    """The bits that a calibration chose within a budget; None where it had none. Raises like `read_result`."""
    path = folder / ALLOCATION_FILE
    if not path.exists():
        return None
    with refusing_damage(path, REDO_STAGE):
        return json.loads(path.read_text(encoding="utf-8"))
