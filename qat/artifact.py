"""Trees of arrays on disk: one safetensors file, written whole or not at all, that says its own structure."""

import io
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.flax import save as serialize

from qat.storage import write_atomically
from qat.trees import skeleton, tree_of

STRUCTURE, DTYPES = "structure", "dtypes"


def save_tree(path: Path, tree: Any) -> None:
    """Write a tree of dicts, lists and tuples of arrays; of anything else `ValueError`."""
    leaves, treedef = jax.tree.flatten(tree)
    structure = skeleton(treedef)
    if structure is None:
        raise ValueError(f"`tree` must be of dicts, lists and tuples, got {treedef}. Turn other nodes into dicts.")
    arrays = {f"{i:06}": jax.numpy.asarray(leaf) for i, leaf in enumerate(leaves)}
    metadata = {STRUCTURE: json.dumps(structure), DTYPES: json.dumps([x.dtype.name for x in arrays.values()])}
    write_atomically(path, ordered(serialize(arrays, metadata=metadata)))


def load_tree(path: Path) -> Any:
    """The tree that `save_tree` wrote. Raises `ValueError` where the file is not whole."""
    content = path.read_bytes()
    try:
        found = sorted(deserialize(content))
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        leaves = [
            jax.numpy.asarray(np.frombuffer(x["data"], jax.numpy.dtype(name)).reshape(x["shape"]))
            for (_, x), name in zip(found, json.loads(metadata[DTYPES]), strict=True)
        ]
        return jax.tree.unflatten(tree_of(json.loads(metadata[STRUCTURE]), None), leaves)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(
            f"{str(path)!r} is damaged ({error}). Delete its folder and run the sweep again: only it is redone."
        ) from None


def ordered(content: bytes) -> bytes:
    """A safetensors file with its metadata in the order of their names: the library's own order is another each time,
    and equal models should be equal files."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors stay aligned
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def save_examples(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays over the examples of a split, as numpy's `.npz`."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    write_atomically(path, buffer.getvalue())
