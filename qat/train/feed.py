"""One batch per step, checked on the host before it can cause a compilation or a wrong average."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np

from qat.train.structure import describe, differences


class RandomAccess(Protocol):
    """Batches by step: `batches[step]` is the same pytree of arrays whenever it is asked for."""

    def __getitem__(self, step: int, /) -> Any: ...


def checked(batches: RandomAccess, batch_size: int, steps: int) -> Callable[[int], Any]:
    """`batches` as a function of the step that raises `ValueError` for a batch unlike the first it gave.

    Every leaf must hold `batch_size` examples along axis 0.
    """
    seen: list[Any] = []

    def batch_of(step: int) -> Any:
        batch = _take(batches, step, steps)
        if not seen:
            _check_first(batch, batch_size)
            seen.append(batch)
        elif _form(batch) != _form(seen[0]):
            raise ValueError(
                f"`batches[{step}]` must have the structure of the batches before it: "
                f"{differences(describe(seen[0]), describe(batch)) or 'other containers'}."
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
