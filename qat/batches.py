"""Batches one at a time, each as the tuple of a function's inputs."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax

from qat.arguments import refuse_constants


def stream(batches: Iterable[Any], *more: Any) -> Iterator[tuple[Any, ...]]:
    """The batches as inputs, with `more` behind those of each. Raises `ValueError` for what is no iterable of batches,
    for no batch at all, for text, and for one whose tree, dtypes or ranks are not the first one's."""
    if hasattr(batches, "dtype") or isinstance(batches, str | dict) or not isinstance(batches, Iterable):
        raise ValueError(
            f"`batches` must be an iterable of batches, got one {type(batches).__name__}. "
            "For a single batch write [batch]."
        )
    first = None
    for number, batch in enumerate(batches):
        inputs = batch if isinstance(batch, tuple) else (batch,)
        refuse_constants(inputs)
        leaves, tree = jax.tree.flatten(inputs)
        form = (tree, [(jax.typeof(x).dtype, len(jax.typeof(x).shape)) for x in leaves])
        first = first or form
        if form != first:
            raise ValueError(
                f"`batches`: batch {number} has another structure than the first: expected {first}, got {form}. "
                "Batch sizes may differ, nothing else."
            )
        yield *inputs, *more
    if first is None:
        raise ValueError("`batches` is empty: give at least one batch, a tuple of the function's inputs.")
