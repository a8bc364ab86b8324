"""Trees of arrays on disk, as safetensors files that hold their structure; damage is refused."""

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np
from safetensors import deserialize
from safetensors.flax import save as serialize

from qat.fileio import write_atomically


def skeleton(treedef: Any) -> Any:
    """The structure as JSON, or None where it has nodes other than dicts, lists and tuples (an NNX state)."""
    try:
        return _encode(jax.tree.unflatten(treedef, range(treedef.num_leaves)))
    except TypeError:
        return None


def tree_of(encoded: Any, like: Any) -> Any:
    """The structure of `like`, else the one that `skeleton` wrote. Raises `ValueError` where there is neither."""
    if like is not None:
        return jax.tree.structure(like)
    if encoded is None:
        raise ValueError(
            "the parameters are a tree of other nodes than dicts, lists and tuples. "
            "Give such a tree: `qat.load(path, like=params)`; abstract arrays will do."
        )
    return jax.tree.structure(_decode(encoded))


def _encode(node: Any) -> Any:
    if type(node) is dict and all(isinstance(k, str) for k in node):
        return {"d": {k: _encode(v) for k, v in node.items()}}
    if type(node) in (list, tuple):
        return {"l" if type(node) is list else "t": [_encode(v) for v in node]}
    if node is None or type(node) is int:
        return None if node is None else 0
    raise TypeError(type(node).__name__)


def _decode(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    (kind, inside), *_ = node.items()
    if kind == "d":
        return {k: _decode(v) for k, v in inside.items()}
    values = [_decode(v) for v in inside]
    return values if kind == "l" else tuple(values)


STRUCTURE, DTYPES = "structure", "dtypes"
METADATA, DIGEST, FORMAT = "__metadata__", "digest", "format"
REDO_STAGE = "Run the sweep again: it redoes this stage alone."

MODEL, STATE, PARAMETERS = "qat-1", "qat-state-1", "qat-parameters-1"  # formats, as the metadata of a file name them
STAGE, FLOAT = "a stage's result", "a float trial's variables"  # their files name none
READERS = {
    MODEL: "a converted model. `qat.load(path)` reads it.",
    STATE: "a calibration. `qat.load_state(path)` reads it.",
    PARAMETERS: "parameters of a float model. `qat.export.read(path)` reads them.",
    STAGE: "the result of a sweep's stage. `qat.lab.load_trial(RUNS/trials/ID)` loads it with a trial made from it.",
    FLOAT: "the variables of a float model. `qat.lab.load_trial(RUNS/trials/ID)` loads them with their trial.",
}
WRITERS = {
    MODEL: ("model", "Convert and save the model again."),
    PARAMETERS: ("file of parameters", "Export the model again."),
    STATE: ("calibration", "Calibrate and save the state again: `qat.save_state(path, state)`."),
}
DIGITS = 16
MOST_HEADER = 100_000_000  # bytes, the limit of the safetensors library
BLOCK = 1 << 20


def save_tree(path: Path, tree: Any, form: str = STAGE) -> None:
    """Write a tree of dicts, lists and tuples of arrays as a file of the format `form`.

    Raises `ValueError` for a tree with other nodes.
    """
    write_atomically(path, tree_content(tree, form))


def tree_content(tree: Any, form: str) -> bytes:
    """The content of the file that `save_tree` writes."""
    leaves, treedef = jax.tree.flatten(tree)
    structure = skeleton(treedef)
    if structure is None:
        raise ValueError(f"`tree` must be of dicts, lists and tuples, got {treedef}. Turn other nodes into dicts.")
    arrays = {f"{i:06}": jax.numpy.asarray(leaf) for i, leaf in enumerate(leaves)}
    metadata = {STRUCTURE: json.dumps(structure), DTYPES: json.dumps([x.dtype.name for x in arrays.values()])}
    metadata |= {} if form == STAGE else {FORMAT: form}
    return finished(serialize(arrays, metadata=metadata))


def load_tree(path: Path, form: str = STAGE, remedy: str = REDO_STAGE) -> Any:
    """Read the tree that `save_tree` wrote in the format `form`.

    Raises `ValueError` for a file of another kind and, with the `remedy`, for a damaged one.
    """
    with refusing_damage(path, remedy):
        content = path.read_bytes()
        check_content(io.BytesIO(content))
        found = sorted(deserialize(content))
        metadata = _header(io.BytesIO(content)).get(METADATA, {})
    refuse_another_kind(path, metadata, form)
    with refusing_damage(path, remedy):
        leaves = [
            jax.numpy.asarray(np.frombuffer(x["data"], jax.numpy.dtype(name)).reshape(x["shape"]))
            for (_, x), name in zip(found, json.loads(metadata[DTYPES]), strict=True)
        ]
        return jax.tree.unflatten(tree_of(json.loads(metadata[STRUCTURE]), None), leaves)


def refuse_another_kind(path: Path, metadata: Mapping[str, str], form: str) -> None:
    """Raise `ValueError` where the metadata name another format than `form`, with the function that reads it."""
    usual = STAGE if STRUCTURE in metadata else FLOAT if set(metadata) == {DIGEST} else None
    found = metadata.get(FORMAT, usual)
    if found == form:
        return
    if found in READERS:
        raise ValueError(f"{str(path)!r} holds {READERS[found]}")
    if form in WRITERS:
        kind, writer = WRITERS[form]
        raise ValueError(f"{str(path)!r} is no {kind} of this format: expected {form!r}, got {found!r}. {writer}")
    raise ValueError(f"{str(path)!r} is damaged (it does not say its structure). {REDO_STAGE}")


@contextlib.contextmanager
def refusing_damage(path: Path, remedy: str) -> Iterator[None]:
    """Turn any error in the block into one `ValueError` that names the damaged file: libraries may raise anything on
    it."""
    try:
        yield
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:
        problem = str(error).strip() or type(error).__name__
        raise ValueError(f"{str(path)!r} is damaged ({problem.removesuffix('.')}). {remedy}") from error


def finished(content: bytes) -> bytes:
    """A safetensors file with a digest of its content added to its metadata, and the metadata sorted by name: the
    library's order varies from run to run, and equal models must be equal files."""
    header = _header(io.BytesIO(content))
    data = memoryview(content)[8 + int.from_bytes(content[:8], "little") :]
    header[METADATA] = {**header.get(METADATA, {}), DIGEST: _digest(header, io.BytesIO(data))}
    header[METADATA] = dict(sorted(header[METADATA].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors stay aligned
    return len(text).to_bytes(8, "little") + text + data


def check_content(file: BinaryIO) -> None:
    """Raise `ValueError` where the content of an open safetensors file differs from its digest; without one it
    passes."""
    header = _header(file)
    digest = header.get(METADATA, {}).get(DIGEST)
    if digest is not None and digest != _digest(header, file):
        raise ValueError("its content is not what was written")


def _header(file: BinaryIO) -> dict[str, Any]:
    """The header of a safetensors file; reading stops where its tensors start."""
    length = int.from_bytes(file.read(8), "little")
    if length > MOST_HEADER:
        raise ValueError("its header is too long")
    header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    return header


def _digest(header: dict[str, Any], data: BinaryIO) -> str:
    """The digest of a file: of its header, without the digest stored there, and of the data that follow."""
    metadata = {name: text for name, text in header.get(METADATA, {}).items() if name != DIGEST}
    total = hashlib.sha256(json.dumps({**header, METADATA: metadata}, sort_keys=True).encode())
    while block := data.read(BLOCK):
        total.update(block)
    return total.hexdigest()[:DIGITS]
