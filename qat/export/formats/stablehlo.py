"""StableHLO by `jax.export`: one file for CPUs, GPUs and TPUs that a process with jax alone runs."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int8, UInt8

from qat.core.convert import Converted
from qat.export.description import Description
from qat.export.exported import read
from qat.export.exporter import (
    BATCH,
    DYNAMIC,
    LENGTH,
    Artifact,
    Exportable,
    Exporter,
    names_of,
    register,
    specs_of,
    with_axes,
)
from qat.export.runnable import Runnable
from qat.fileio import describe_error
from qat.numerics import from_stored, stored

PLATFORMS = ("cpu", "cuda", "tpu")
LOCATIONS = "jax_traceback_in_locations_limit"
MOST_LENGTH = re.compile(rf"{LENGTH}'? (?:<=|>) '?(\d+)")
LENGTHS = ("auto", "dynamic", "fixed")


@register
def stablehlo(platforms: Sequence[str] = PLATFORMS, length: str = "auto") -> Exporter:
    """One program for CPUs, GPUs and TPUs, run by `jax.export.deserialize(content).call(*inputs)`; equal to `serve`.

    Weights are constants of one byte a code, of half a byte up to 4 bits. With `length` 'dynamic' the second axis of
    the inputs is open too; 'auto' tries that for tokens, and keeps the examples' length where the model needs one.
    """
    if length not in LENGTHS:
        raise ValueError(f"`length` must be one of {', '.join(LENGTHS)}, got {length!r}.")
    chosen = (platforms,) if isinstance(platforms, str) else tuple(platforms)
    return Exporter(".stablehlo", lambda one: _build(one, chosen, length), _load, packages=("flatbuffers",))


def load_stablehlo(path: str | Path, variables: Any = None) -> Runnable:
    """The program in a StableHLO file that was exported here, as `qat.export.read` reads it; refuses other kinds."""
    found = read(path, variables)
    if not isinstance(found, Runnable) or not found.description.kind.startswith(stablehlo.__name__):
        raise ValueError(f"{str(path)!r} is no StableHLO file. `qat.export.read(path)` reads it.")
    return found


def _load(path: Path, description: Description) -> Runnable:
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    call = jax.jit(exported.call)

    def run(*inputs: Any) -> Any:
        same = jax.tree.structure((inputs, {})) == exported.in_tree
        return call(*(inputs if same else jax.tree.leaves(inputs)))

    return Runnable(description, run)


def _build(exportable: Exportable, platforms: tuple[str, ...], length: str) -> Artifact:
    export = jax.export.export(jax.jit(_closed(exportable)), platforms=platforms)
    refused: list[str] = []
    for inputs, limits in _attempts(exportable, length, refused):
        try:
            exported = without_places(export, inputs)
        except Exception as error:  # a model's own code may raise anything on a symbolic length
            refused.append(describe_error(error))
            continue
        names = names_of(jax.tree.unflatten(exported.out_tree, exported.out_avals), "output")
        closed = [f"The model refuses other lengths than its examples': {one.splitlines()[0]}" for one in refused[:1]]
        return Artifact(
            bytes(exported.serialize()),
            specs_of(exportable.input_names, exported.in_avals),
            specs_of(names, exported.out_avals),
            notes=() if limits else tuple(closed),
            limits=limits,
        )
    remedy = "Give `batch` as a number" if exportable.batch == DYNAMIC else "Name fewer `platforms`, such as ('cpu',)"
    raise ValueError(f"the model cannot be exported as StableHLO ({refused[-1]}). {remedy}.")


def _attempts(
    exportable: Exportable, length: str, refused: list[str]
) -> Iterator[tuple[tuple[Any, ...], tuple[str, ...]]]:
    """Abstract inputs to export for, the most general first, each with the limits of open lengths. Errors of earlier
    ones, in `refused`, may name the greatest length that the model takes; at last it is that of the examples."""
    leaves = jax.tree.leaves(exportable.inputs)
    second = {leaf.shape[1] for leaf in leaves if leaf.ndim > 1}
    tokens = all(leaf.ndim == 2 and not jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)
    if length == "dynamic" and len(second) != 1:
        raise ValueError(f"`length` 'dynamic' needs inputs with one length as second axis, got {sorted(second)}.")
    if length == "dynamic" or (length == "auto" and tokens and len(second) == 1):
        (examples,) = second
        yield _symbolic(exportable, (1,), ()), ()
        found = MOST_LENGTH.search(refused[-1])
        while found and int(found[1]) > examples:
            most = int(found[1])
            yield _symbolic(exportable, (1,), (f"{LENGTH} <= {most}",)), (f"{LENGTH} <= {most}",)
            found = MOST_LENGTH.search(refused[-1])
            found = found if found and int(found[1]) < most else None
        yield _symbolic(exportable, (1,), (f"{LENGTH} <= {examples}",)), (f"{LENGTH} <= {examples}",)
    if length != "dynamic":
        yield _symbolic(exportable, (), ()), ()


def without_places(export: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
    """The exported function without the files and lines of its code, which belong to this machine and take space."""
    limit = jax.config.jax_traceback_in_locations_limit
    jax.config.update(LOCATIONS, 0)
    try:
        return export(*inputs)
    finally:
        jax.config.update(LOCATIONS, limit)


def _symbolic(exportable: Exportable, open_axes: tuple[int, ...], limits: tuple[str, ...]) -> tuple[Any, ...]:
    batch, length = jax.export.symbolic_shape(f"{BATCH}, {LENGTH}", constraints=limits)
    first = batch if exportable.batch == DYNAMIC else exportable.batch
    inputs = with_axes(exportable, {0: first, **dict.fromkeys(open_axes, length)})
    return inputs if all(map(_is_plain, inputs)) else tuple(jax.tree.leaves(inputs))


def _closed(exportable: Exportable) -> Callable[..., Any]:
    """The model as a function of its inputs alone, of trees that jax alone can read, with its values as constants.

    They pass a barrier: the compiler must not compute with constants what `serve` computes with arguments, as other
    last bits could come out.
    """
    constants, restore = _packed(exportable.variables)
    tree = jax.tree.structure(exportable.inputs)

    def program(*given: Any) -> Any:
        variables = restore(jax.lax.optimization_barrier([jnp.asarray(one) for one in constants]))
        return _plain(exportable.run(variables, *jax.tree.unflatten(tree, jax.tree.leaves(given))))

    return program


def _packed(variables: Any) -> tuple[list[Any], Callable[[list[Array]], Any]]:
    """Arrays that take as few bytes as the model's codes need, and the function that makes the model of them."""
    if not isinstance(variables, Converted):
        leaves, tree = jax.tree.flatten(variables)
        return leaves, lambda given: jax.tree.unflatten(tree, given)
    widths = {key: _width(int(8 if q.bits is None else q.bits)) for key, q in variables.weights.items()}
    shapes = {key: q.codes.shape for key, q in variables.weights.items()}
    packed = {
        key: replace(q, codes=pack(stored(np.asarray(q.codes), q.odd), widths[key]), bits=None)
        for key, q in variables.weights.items()
    }
    leaves, tree = jax.tree.flatten(replace(variables, weights=packed, recipe=None))

    def restore(given: list[Array]) -> Converted:
        found = jax.tree.unflatten(tree, given)
        weights = {
            key: replace(q, codes=from_stored(unpack(q.codes, widths[key], shapes[key]), q.odd))
            for key, q in found.weights.items()
        }
        return replace(found, weights=weights)

    return leaves, restore


def _width(bits: int) -> int:
    """The bits that a code takes in the file: a byte is divided evenly."""
    return next(width for width in (1, 2, 4, 8) if bits <= width)


def pack(codes: Int8[np.ndarray, "..."], width: int) -> Int8[np.ndarray, "..."] | UInt8[np.ndarray, " bytes"]:
    """Codes of `width` bits with several to a byte, the first in its lowest bits; those of 8 bits as they are."""
    if width == 8:
        return codes
    each = 8 // width
    row = codes.reshape(-1).view(np.uint8) & (2**width - 1)
    row = np.pad(row, (0, -row.size % each)).reshape(-1, each)
    return np.bitwise_or.reduce(row << (width * np.arange(each, dtype=np.uint8)), axis=1).astype(np.uint8)


def unpack(packed: Array, width: int, shape: tuple[int, ...]) -> Int8[Array, "..."]:
    """The codes that `pack` made `packed` from."""
    if width == 8:
        return packed
    shifts = width * jnp.arange(8 // width, dtype=jnp.uint8)
    # The code goes to the highest bits, from where an arithmetic shift brings its sign along.
    high = jax.lax.bitcast_convert_type((packed[:, None] >> shifts) << (8 - width), jnp.int8)
    size = int(np.prod(shape, dtype=np.int64))
    return jnp.right_shift(high, 8 - width).reshape(-1)[:size].reshape(shape)


def _is_plain(tree: Any) -> bool:
    """Whether a tree has no nodes but dicts, lists, tuples and None, which every process knows."""
    if type(tree) is dict:
        return all(isinstance(key, str) and _is_plain(one) for key, one in tree.items())
    if type(tree) in (list, tuple):
        return all(map(_is_plain, tree))
    return tree is None or jax.tree_util.all_leaves([tree])


def _plain(tree: Any) -> Any:
    """The tree with named tuples as dicts of their fields, and any node that other processes do not know as a tuple of
    its arrays."""
    if isinstance(tree, tuple) and hasattr(tree, "_asdict"):
        return {name: _plain(one) for name, one in tree._asdict().items()}  # pyright: ignore[reportAttributeAccessIssue]
    if type(tree) is dict and all(isinstance(key, str) for key in tree):
        return {key: _plain(one) for key, one in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(_plain(one) for one in tree)
    if tree is None or jax.tree_util.all_leaves([tree]):
        return tree
    return tuple(jax.tree.leaves(tree))
