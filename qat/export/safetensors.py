"""Converted models on disk: one safetensors file with packed codes, float parameters by name, and an index.

The file holds `codes/KEY` for every weight (uint8, packed), `leaves/PATH` for every float parameter that is still
read, and all scales and zero points of weights and activations in a few flat arrays. The metadata `index` (JSON,
compressed, in base64) says where each of them is.
"""

import base64
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int8, UInt8
from safetensors import safe_open
from safetensors.numpy import save as serialize

from qat.core.convert import Converted, Structure
from qat.core.operands import ActivationGrid
from qat.core.state import as_characters, label_of
from qat.core.weights import sums_to
from qat.export.trees import (
    FORMAT,
    MODEL,
    check_content,
    finished,
    refuse_another_kind,
    refusing_damage,
    skeleton,
    tree_of,
)
from qat.fileio import folder, local_copy, write_atomically
from qat.numerics import MAX_BITS, MIN_BITS, QParams, QTensor, from_stored, stored

type Pack = Callable[[Any, int], UInt8[np.ndarray, " bytes"]]

ODD = "odd"  # marks a weight or a grid of odd codes
CODES = (-(2 ** (MAX_BITS - 1)), 2 ** (MAX_BITS - 1) - 1)


def packed_size(key: str, bits: Any, shape: Any, least: int = MIN_BITS) -> int:
    """The bytes of a weight's packed codes. Raises `ValueError` for bits or a shape that no weight can have."""
    if not isinstance(bits, int) or isinstance(bits, bool) or not least <= bits <= MAX_BITS:
        raise ValueError(f"weight {key!r} must have {least} to {MAX_BITS} bits, got {bits!r}")
    if not isinstance(shape, list) or not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"weight {key!r} must have a shape of whole numbers, got {shape!r}")
    size = 1
    for length in shape:
        size *= length
    return (size * bits + 7) // 8


def check_weight(key: str, q: QTensor, bits: int) -> None:
    """Raise `ValueError` for a scale that is not positive and finite, and for a zero point that is no code."""
    _check_scale(f"weight {key!r}", q.scale)
    if q.zero_point is not None:
        _check_within(f"zero points of weight {key!r}", q.zero_point, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def check_grid(key: str, one: ActivationGrid) -> None:
    """Raise `ValueError` for an activation's grid whose codes are no range within int8, whose scale is not positive and
    finite, or whose zero point is no code."""
    p = one.grid
    low, high = (p.qmin, p.qmax) if p is not None else one.codes or (0, 0)
    _check_within(f"codes of {key!r}", low, *CODES)
    _check_within(f"codes of {key!r}", high, *CODES)
    if np.shape(low) != np.shape(high) or (np.asarray(low) >= np.asarray(high)).any():
        raise ValueError(f"codes of {key!r} must range from a smaller to a larger one")
    if p is not None:
        _check_scale(repr(key), p.scale)
        if p.zero_point is not None:
            _check_within(f"zero points of {key!r}", p.zero_point, int(np.min(low)), int(np.max(high)))


def _check_scale(name: str, scale: Any) -> None:
    values = np.asarray(scale)
    wrong = values[~(np.isfinite(values) & (values > 0))]
    if wrong.size:
        raise ValueError(f"scales of {name} must be positive and finite, got {wrong[0]}")


def _check_within(name: str, values: Any, low: int, high: int) -> None:
    found = np.asarray(values)
    wrong = found[(found < low) | (found > high)]
    if wrong.size:
        raise ValueError(f"{name} must be in [{low}, {high}], got {wrong[0]}")


def pack(codes: Int8[np.ndarray, "..."], bits: int) -> UInt8[np.ndarray, " bytes"]:
    """Codes in [-2**(bits-1), 2**(bits-1)) as a string of bits, first code first: 4 bits are two to a byte."""
    if bits == 8:
        return codes.reshape(-1).view(np.uint8)
    shifted = (codes.reshape(-1).astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    return np.packbits(np.unpackbits(shifted[:, None], axis=1)[:, 8 - bits :])


def unpack(packed: UInt8[np.ndarray, " bytes"], bits: int, shape: tuple[int, ...]) -> Int8[np.ndarray, "..."]:
    """The codes of a shape and width that `pack` made `packed` from."""
    if bits == 8:
        return packed.view(np.int8).reshape(shape)
    size = int(np.prod(shape))
    each = np.unpackbits(packed, count=size * bits).reshape(size, bits)
    shifted = np.packbits(np.pad(each, ((0, 0), (8 - bits, 0))), axis=1)[:, 0]
    return (shifted.astype(np.int16) - 2 ** (bits - 1)).astype(np.int8).reshape(shape)


MOST_INDEX = 1 << 28  # characters
REMEDY = "Save the model again."


class _Flat:
    """Small arrays concatenated into one array for each dtype, and read back in the same order."""

    def __init__(self, arrays: dict[str, np.ndarray] | None = None):
        self.parts: dict[str, list[np.ndarray]] = {}
        self.arrays = arrays or {}
        self.read: dict[str, int] = {}

    def put(self, x: Any) -> list[int] | None:
        """Append an array and return its shape, which `get` needs to read it back."""
        if x is None:
            return None
        value = np.asarray(x)
        self.parts.setdefault(value.dtype.name, []).append(value.reshape(-1))
        return list(value.shape)

    def get(self, shape: list[int] | None, dtype: str) -> Any:
        """The next array of that dtype."""
        if shape is None:
            return None
        start, size = self.read.get(dtype, 0), int(np.prod(shape, dtype=np.int64))
        self.read[dtype] = start + size
        return jnp.asarray(self.arrays[f"flat/{dtype}"][start : start + size].reshape(shape))

    def tensors(self) -> dict[str, np.ndarray]:
        return {f"flat/{dtype}": np.concatenate(parts) for dtype, parts in self.parts.items()}


def save(path: str | Path, model: Converted | None = None) -> None:
    """Write a converted model; the file appears whole or not at all. Raises `ValueError` for any other value."""
    if not isinstance(path, str | os.PathLike) or not isinstance(model, Converted):
        raise ValueError(
            f"`save` takes a path and what `convert` returns, got {type(path).__name__} and {type(model).__name__}. "
            "Call `qat.save('model.safetensors', q.convert(params, state, *inputs))`."
        )
    write_atomically(folder(path), serialized(model))


def serialized(model: Converted, pack: Pack = pack) -> bytes:
    """The content of a converted model's file; `pack(codes, bits)` gives the bytes that are stored of a weight."""
    flat, tensors, weights = _Flat(), {}, {}
    for key, q in sorted(model.weights.items()):
        bits = 8 if q.bits is None else int(q.bits)
        tensors[f"codes/{key}"] = pack(stored(np.asarray(q.codes), q.odd), bits)
        weights[key] = [
            bits,
            list(q.codes.shape),
            flat.put(q.scale),
            flat.put(q.zero_point),
            None if q.totals is None else list(q.totals.shape),
            *([ODD] if q.odd else []),
        ]
    grids = {key: _put_grid(flat, grid) for key, grid in sorted(model.grids.items())}
    leaves = {}
    for leaf_path, leaf in sorted(model.leaves.items()):
        tensors[f"leaves/{leaf_path}"], leaves[leaf_path] = _to_numpy(leaf)
    tree, avals = model.structure.tree, model.structure.leaves
    index = {
        "weights": weights,
        "grids": grids,
        "leaves": leaves,
        "tree": skeleton(tree),
        "avals": [[list(a.shape), str(a.dtype), a.weak_type] for a in avals],
    }
    if model.recipe is not None:
        index["recipe"] = label_of(model.recipe)
    packed = base64.b64encode(zlib.compress(json.dumps(index, separators=(",", ":")).encode(), 9)).decode()
    return finished(serialize({**tensors, **flat.tensors()}, {FORMAT: MODEL, "index": packed}))


def load(path: str | Path, like: Any = None) -> Converted:
    """Read a converted model. `like` is the tree of float parameters (arrays or abstract), needed only where it has
    other nodes than dicts, lists and tuples, as an NNX state does.

    Raises `ValueError` for a file that is damaged or of another kind.
    """
    file = folder(path)
    if not file.is_file():
        raise ValueError(f"there is no model at {str(file)!r}. `qat.save(path, converted)` writes one.")
    with refusing_damage(file, REMEDY):
        metadata, tensors, index = _read(file)
    refuse_another_kind(file, metadata, MODEL)
    with refusing_damage(file, REMEDY):
        leaves, weights, grids, avals = _loaded(tensors, index)
    tree, label = tree_of(index["tree"], like), index.get("recipe")
    if tree.num_leaves != len(avals):
        raise ValueError(
            f"`like` has {tree.num_leaves} leaves, the saved parameters have {len(avals)}. "
            "Give the tree of parameters that was converted."
        )
    return Converted(leaves, weights, grids, structure=Structure(tree, avals), recipe=label and as_characters(label))


def _loaded(tensors: dict[str, np.ndarray], index: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    """Float leaves, integer weights, grids of activations, and shapes and dtypes of all parameters. Raises `ValueError`
    for values that no conversion produces."""
    flat, weights = _Flat(tensors), {}
    for key, (bits, shape, scale, zero, totals, *more) in index["weights"].items():
        packed, odd = tensors[f"codes/{key}"], more == [ODD]
        if packed.size != (expected := packed_size(key, bits, shape, 1 if odd else MIN_BITS)):
            raise ValueError(f"weight {key!r} must have {expected} bytes of codes, got {packed.size}")
        codes = jnp.asarray(from_stored(unpack(packed, bits, tuple(shape)), odd))
        sums = None if totals is None else sums_to(codes, tuple(totals))
        weights[key] = QTensor(
            codes, flat.get(scale, "float32"), flat.get(zero, "int32"), bits=jnp.int32(bits), totals=sums, odd=odd
        )
        check_weight(key, weights[key], bits)
    grids = {key: _get_grid(flat, entry) for key, entry in index["grids"].items()}
    for key, grid in grids.items():
        check_grid(key, grid)
    leaves = {name: _from_numpy(tensors[f"leaves/{name}"], dtype) for name, dtype in index["leaves"].items()}
    avals = tuple(
        jax.ShapeDtypeStruct(tuple(shape), _dtype(name), weak_type=weak) for shape, name, weak in index["avals"]
    )
    return leaves, weights, grids, avals


def _put_grid(flat: _Flat, one: ActivationGrid) -> list[Any]:
    p = one.grid
    if p is None:
        return ["codes", *(flat.put(code) for code in one.codes or ())]
    return [ODD if p.odd else "grid", flat.put(p.scale), flat.put(p.zero_point), flat.put(p.qmin), flat.put(p.qmax)]


def _get_grid(flat: _Flat, entry: list[Any]) -> ActivationGrid:
    if entry[0] == "codes":
        return ActivationGrid(codes=(flat.get(entry[1], "int32"), flat.get(entry[2], "int32")))
    scale = flat.get(entry[1], "float32")
    return ActivationGrid(QParams(scale, *(flat.get(shape, "int32") for shape in entry[2:]), odd=entry[0] == ODD))


def _to_numpy(leaf: Any) -> tuple[np.ndarray, str]:
    """A float parameter as an array that safetensors can hold, and the name of its dtype; random keys as their bits."""
    leaf = jnp.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf)), str(leaf.dtype)
    value = np.asarray(leaf)
    known = value.dtype.isbuiltin == 1  # a dtype of numpy itself, unlike bfloat16, float8 and int4
    return (value if known else value.view(f"u{value.dtype.itemsize}")), value.dtype.name


def _from_numpy(value: np.ndarray, dtype: str) -> jax.Array:
    if dtype.startswith("key<"):
        return jax.random.wrap_key_data(jnp.asarray(value), impl=key_impl(dtype))
    return jnp.asarray(value.view(jnp.dtype(dtype)))


def _dtype(name: str) -> Any:
    return jax.random.key(0, impl=key_impl(name)).dtype if name.startswith("key<") else jnp.dtype(name)


def key_impl(name: str) -> str:
    """The name of the random number generator whose keys have the dtype `name`."""
    short = name.removeprefix("key<").removesuffix(">")
    return {"fry": "threefry2x32", "rbg": "rbg", "urbg": "unsafe_rbg"}[short]


def _read(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray], dict[str, Any]]:
    """A file's metadata and, if it is a converted model, its tensors and its index."""
    with path.open("rb") as file:
        check_content(file)
    with local_copy(path) as place, safe_open(place, "numpy") as file:
        metadata = file.metadata() or {}
        if metadata.get(FORMAT) != MODEL:
            return metadata, {}, {}
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(base64.b64decode(metadata["index"]), MOST_INDEX)
        if not unpacker.eof:
            raise ValueError("its index is cut off or too long")
        return metadata, {name: file.get_tensor(name) for name in file.keys()}, json.loads(text)  # noqa: SIM118
