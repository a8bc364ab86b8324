"""One batch per step, checked on the host before it can cause a compilation or a wrong average."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np

MOST_SHOWN = 4


def describe(tree: Any) -> dict[str, str]:
    """Each leaf's path and what it holds, such as `{"['conv']['kernel']": "float32[3,3,1,8]"}`."""
    return {jax.tree_util.keystr(path): leaf_type(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def leaf_type(leaf: Any) -> str:
    """Dtype and shape of an array or a number: `"float32[3,3,1,8]"`."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    return f"{dtype}[{','.join(map(str, np.shape(leaf)))}]"


def differences(expected: dict[str, Any], came: dict[str, Any]) -> str:
    """The first few entries in which `came` differs from `expected`; empty where they are equal."""
    paths = [p for p in {**expected, **came} if expected.get(p, "nothing") != came.get(p, "nothing")]
    lines = [f"{p}: expected {expected.get(p, 'nothing')}, got {came.get(p, 'nothing')}" for p in paths[:MOST_SHOWN]]
    more = [f"and {len(paths) - MOST_SHOWN} more"] if len(paths) > MOST_SHOWN else []
    return "; ".join(lines + more)


class RandomAccess(Protocol):
    """Batches by step: `batches[step]` is the same pytree of arrays whenever it is asked for."""

    def __getitem__(self, step: int, /) -> Any: ...


type Table = Mapping[str, np.ndarray]
"""Arrays of which every batch of a source is rows: `batches.table`, with `batches.places(step)` its rows of a step."""


class Bucketed(Protocol):
    """Says of batches that are cut to one of a few lengths what they would be at full length."""

    def full(self, batch: Any, /) -> Any:
        """The batch at full length. Raises `ValueError` for one that has none of the lengths."""
        ...


def checked(batches: RandomAccess, batch_size: int, steps: int) -> Callable[[int], Any]:
    """`batches` as a function of the step that raises `ValueError` for a batch unlike the first it gave.

    Every leaf must hold `batch_size` examples along axis 0. Where `batches` have `buckets`, batches may differ in the
    bucket that they are cut to.
    """
    buckets: Bucketed | None = getattr(batches, "buckets", None)
    seen: list[Any] = []

    def batch_of(step: int) -> Any:
        batch = _take(batches, step, steps)
        whole = batch if buckets is None else _full(buckets, batch, step)
        if not seen:
            _check_first(whole, batch_size)
            seen.append(whole)
        elif _form(whole) != _form(seen[0]):
            raise ValueError(
                f"`batches[{step}]` must have the structure of the batches before it: "
                f"{differences(describe(seen[0]), describe(whole)) or 'other containers'}."
            )
        return batch

    return batch_of


def _take(batches: RandomAccess, step: int, steps: int) -> Any:
    try:
        return batches[step]
    except IndexError:
        ending = "is empty" if step == 0 else f"ends at step {step}"
        raise ValueError(
            f"`batches` must have a batch for each of {steps} steps, but {ending}. Lower `steps`, or use "
            "`qat.data.Batches`, which repeats its source."
        ) from None


def _full(buckets: Bucketed, batch: Any, step: int) -> Any:
    try:
        return buckets.full(batch)
    except ValueError as error:
        raise ValueError(f"`batches[{step}]` must be cut to one of its buckets: {error}") from None


def _check_first(batch: Any, batch_size: int) -> None:
    leaves = jax.tree_util.tree_leaves_with_path(batch)
    if not leaves:
        raise ValueError(f"`batches` must hold arrays, got an empty batch {batch!r}.")
    wrong = {jax.tree_util.keystr(path): np.shape(x) for path, x in leaves if np.shape(x)[:1] != (batch_size,)}
    if wrong:
        raise ValueError(
            f"`batches` must hold `batch_size` = {batch_size} examples along axis 0 of every array, got shapes "
            f"{wrong}. Make the batches of the size in the config."
        )


def _form(batch: Any) -> tuple[Any, list[tuple[tuple[int, ...], Any]]]:
    leaves, treedef = jax.tree.flatten(batch)
    return treedef, [(np.shape(x), x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype) for x in leaves]
