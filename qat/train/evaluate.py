"""Metrics over a whole data set, every example counted once."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

type Metric = Callable[[Any, Any], dict[str, jax.Array]]


def evaluate(metric: Metric, variables: Any, batches: Iterable[Any]) -> dict[str, float]:
    """Mean of each of the metric's numbers over all examples, summed in float64."""
    return {name: float(np.mean(x, dtype=np.float64)) for name, x in per_example(metric, variables, batches).items()}


def per_example(
    metric: Metric, variables: Any, batches: Iterable[Any], *, order: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Evaluate `metric(variables, batch)` for each example: arrays `[examples, ...]`, in the order of the batches.

    `order` holds for each example that comes its place in the arrays, as `qat.data.in_buckets` gives it. The metric
    returns arrays `[batch, ...]` and is compiled once for batches of one shape: a batch shorter than the first is
    filled up with its own first example, which leaves ranges over the batch as they are, and the filling is dropped
    again. A `variables` of another structure, not of other values, compiles again, and so does another bucket.
    """
    compiled, results, size = jax.jit(metric), [], None
    for number, batch in enumerate(batches):
        count = _examples(batch, number)
        size = count if size is None else size
        if count > size:
            raise ValueError(f"`batches` must not grow, but batch {number} has {count} examples, the first {size}.")
        found = jax.device_get(compiled(variables, _filled(batch, size)))
        _check_per_example(found, size)
        results.append({name: x[:count] for name, x in found.items()})
    if not results:
        raise ValueError(
            "`batches` must hold at least one batch, got none. Is the split empty, or the iterator used up?"
        )
    arrays = {name: np.concatenate([result[name] for result in results]) for name in results[0]}
    return arrays if order is None else _placed(arrays, order)


def _examples(batch: Any, number: int) -> int:
    sizes = {np.shape(x)[0] if np.ndim(x) else 0 for x in jax.tree.leaves(batch)}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(
            f"`batches` must have equally many examples, at least one, along axis 0 of every array of a batch; "
            f"batch {number} has {sorted(sizes)}."
        )
    return sizes.pop()


def _placed(arrays: dict[str, np.ndarray], order: np.ndarray) -> dict[str, np.ndarray]:
    count = len(next(iter(arrays.values())))
    if not np.array_equal(np.sort(order), np.arange(count)):
        raise ValueError(
            f"`order` must hold the place of each of {count} examples, every one of them once, got {len(order)} places."
        )
    places = np.argsort(order)
    return {name: array[places] for name, array in arrays.items()}


def _filled(batch: Any, size: int) -> Any:
    return jax.tree.map(lambda x: np.concatenate([x, np.repeat(x[:1], size - len(x), axis=0)]), batch)


def _check_per_example(found: dict[str, np.ndarray], size: int) -> None:
    wrong = {name: np.shape(x) for name, x in found.items() if np.shape(x)[:1] != (size,)}
    if wrong:
        raise ValueError(
            f"`metric` must return one value per example, arrays [{size}, ...], got shapes {wrong}. "
            "Return the values before averaging over the batch."
        )
