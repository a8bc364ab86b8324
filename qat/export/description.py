"""The description of an exported file, a small JSON file beside it: which model it holds, its inputs and outputs."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qat import __version__
from qat.core.state import label_of
from qat.export.exporter import DYNAMIC, ArraySpec, Artifact, Exportable
from qat.fileio import MEGA, write_atomically

FORMAT = 1
SUFFIX = ".json"
DIGITS = 16
MOST_BYTES = 16 * MEGA
REDO = "Export the model again."


@dataclass(frozen=True, kw_only=True)
class Description:
    """A description as it stands in the file.

    `kind` is the text that names the exporter, `model` a digest of the model's values and recipe, `content` one of the
    exported file, of so many `bytes`. `recipe` is the label of the recipe, None in float; `about` has plain values,
    such as the task and its classes. The other fields are those of `Exportable` and `Artifact`.
    """

    kind: str
    model: str
    recipe: str | None
    qat: str
    content: str
    bytes: int
    batch: int | str
    target: str | None = None
    inputs: Mapping[str, ArraySpec] = field(default_factory=dict)
    outputs: Mapping[str, ArraySpec] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sites: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


def describe(kind: str, exportable: Exportable, artifact: Artifact) -> Description:
    """The description of what an exporter built of a model."""
    return Description(
        kind=kind,
        model=digest_of(exportable.variables),
        recipe=exportable.recipe,
        qat=__version__,
        content=_digest(artifact.content),
        bytes=len(artifact.content),
        batch=exportable.batch or DYNAMIC,
        target=exportable.target,
        inputs=artifact.inputs,
        outputs=artifact.outputs,
        limits=artifact.limits,
        notes=artifact.notes,
        sites=artifact.sites,
        about=exportable.about,
    )


def digest_of(variables: Any) -> str:
    """A digest of a model's values: equal for equal converted trees, or trees of parameters, and for no others."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(variables)[0]:
        if jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        value = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {value.dtype} {value.shape}\n".encode())
        total.update(np.ascontiguousarray(value).tobytes())
    return total.hexdigest()[:DIGITS]


def write_description(path: Path, description: Description) -> None:
    """Write the description of the exported file at `path` beside it."""
    content = {"format": FORMAT, **asdict(description)}
    write_atomically(_beside(path), json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_description(path: Path) -> Description:
    """The description of the exported file at `path`, whose content is as it was written.

    Raises `ValueError` where one of the two files is missing, cut off or changed, is that of another export, or was
    written by a newer version of qat.
    """
    beside = _beside(path)
    for file, what in ((path, "exported model"), (beside, "description of an exported model")):
        if not file.is_file():
            raise ValueError(
                f"there is no {what} at {str(file)!r}. An export is two files, {path.name} and {beside.name}: keep "
                "them together, or export the model again."
            )
    found = _parsed(beside)
    content = path.read_bytes()
    if len(content) != found.bytes:
        raise ValueError(
            f"{str(path)!r} is cut off or of another export: {found.bytes} bytes were written, {len(content)} are "
            f"there. {REDO}"
        )
    if _digest(content) != found.content:
        raise ValueError(f"{str(path)!r} is damaged or of another export than {beside.name} describes. {REDO}")
    return found


def check_same_model(path: Path, description: Description, variables: Any) -> None:
    """Raise `ValueError` where the file at `path` was not exported from these variables, a converted tree or
    parameters."""
    given = digest_of(variables)
    if given != description.model:
        label = label_of(getattr(variables, "recipe", None))
        raise ValueError(
            f"{str(path)!r} holds another model: it was exported from {description.model} (recipe "
            f"{description.recipe or 'none, in float'}), the given one is {given} (recipe {label or 'unknown'}). {REDO}"
        )


def _beside(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def _parsed(path: Path) -> Description:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("it is too large")
        values = json.loads(path.read_text(encoding="utf-8"))
        form = values.pop("format")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is no description of an exported model ({error}). {REDO}") from None
    if not isinstance(form, int) or form > FORMAT:
        raise ValueError(
            f"{str(path)!r} was written by a newer qat (format {form!r}, this one reads up to {FORMAT}). Update qat, "
            "or export the model again."
        )
    try:
        return _typed(values)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}). {REDO}") from None


def _typed(values: dict[str, Any]) -> Description:
    unknown = set(values) - {one.name for one in fields(Description)}
    if unknown:
        raise ValueError(f"unknown field {min(unknown)}")
    arrays = {
        name: {key: ArraySpec(tuple(one["shape"]), str(one["dtype"])) for key, one in values[name].items()}
        for name in ("inputs", "outputs")
    }
    texts = {name: tuple(map(str, values[name])) for name in ("limits", "notes")}
    if not isinstance(values["bytes"], int) or not isinstance(values["content"], str):
        raise ValueError("its bytes and content must be a number and a text")
    return Description(**{**values, **arrays, **texts})
