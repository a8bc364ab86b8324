"""Running statistics of normalisation, estimated anew on batches, whatever module keeps them.

Knows no quantization: what moves the statistics is any function that returns them anew.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from qat.core.jaxpr.contraction import leaf_path

Update = Callable[[Any, tuple[Any, ...]], Any]
"""(params, inputs of a batch) -> a tree with the statistics anew, whose leaves have the paths that they have in
`params`; other leaves may be among them."""

VARIANCE = re.compile(r"var(iance)?$")
TOLERANCE = 1e-3  # of a momentum between the channels of one statistic: rounding stays far below, other updates above


@dataclass(frozen=True)
class Statistics:
    """Statistics by the path of their leaf, and by path why what else training moves was left."""

    values: dict[str, np.ndarray]
    left: dict[str, str]


def statistics_of(update: Update, params: Any, batches: Sequence[tuple[Any, ...]]) -> Statistics:
    """The running statistics that `update` gives over all batches.

    With w_b the share of batch b in all examples, mean = sum w_b m_b and variance = sum w_b (v_b + m_b**2) - mean**2; a
    statistic of another name than a variance, or without a mean beside it, is averaged. Raises `ValueError` where
    nothing moves as the average of batches does.
    """
    momenta, left = moving(update, params, batches[0])
    zeros = replaced(params, {path: np.zeros_like(leaf) for path, leaf in by_path(params).items() if path in momenta})
    sums: dict[str, np.ndarray] = {}
    total = 0
    for inputs in batches:
        found = _matched(params, update(zeros, inputs))
        seen = {path: found[path].astype(np.float64) / (1 - momentum) for path, momentum in momenta.items()}
        size = examples_of(inputs)
        # Second moments add up over batches, variances do not: a batch's own mean lies beside that of all.
        raw = {path: x if (mean := mean_of(path, seen)) is None else x + seen[mean] ** 2 for path, x in seen.items()}
        sums = {path: size * x + sums.get(path, 0.0) for path, x in raw.items()}
        total += size
    averaged = {path: x / total for path, x in sums.items()}
    values = {
        path: x if (mean := mean_of(path, averaged)) is None else np.maximum(x - averaged[mean] ** 2, 0.0)
        for path, x in averaged.items()
    }
    return Statistics(values, left)


def mean_of(path: str, known: Mapping[str, Any]) -> str | None:
    """The path of the mean that belongs to a variance; None for what is no variance, or has no mean beside it."""
    mean = VARIANCE.sub("mean", path)
    return mean if mean != path and mean in known else None


def moving(update: Update, params: Any, inputs: tuple[Any, ...]) -> tuple[dict[str, float], dict[str, str]]:
    """The momentum of each leaf of `params` that `update` moves as an average of batches, by path, from one batch; and
    by path why other leaves that it moves are none. Raises `ValueError` where there is no average.

    The update of a moving average is affine in the old value: its value at zero and a rise tell its momentum. The rise
    is measured at two probes of the batch's own size, where rounding is least, and must be the same at both.
    """
    old, new = by_path(params), _matched(params, update(params, inputs))
    floats = {path: x for path, x in new.items() if jnp.issubdtype(x.dtype, jnp.floating)}
    moved = [path for path, x in floats.items() if (x != np.asarray(old[path])).any()]
    at_zero = _evaluated(update, params, inputs, {path: np.zeros_like(old[path]) for path in moved})
    kept: dict[str, list[np.ndarray]] = {path: [] for path in moved}
    for share in (1.0, 0.15):
        probe = {path: (share * (1 + 2 * np.abs(x))).astype(x.dtype) for path, x in at_zero.items()}
        for path, x in _evaluated(update, params, inputs, probe).items():
            kept[path].append((x.astype(np.float64) - at_zero[path]) / probe[path].astype(np.float64))
    found = {path: _momentum(np.stack(values)) for path, values in kept.items()}
    left = {path: why for path, why in found.items() if isinstance(why, str)}
    if len(left) == len(found):
        others = "".join(f" {path!r} is moved, but {why}." for path, why in left.items())
        raise ValueError(_none(others))
    return {path: momentum for path, momentum in found.items() if not isinstance(momentum, str)}, left


def require_moved(training: Callable[..., Any], params: Any, inputs: tuple[Any, ...]) -> None:
    """Raise `ValueError` where `training(params, *inputs)` does not return (outputs, statistics), or hands back all
    leaves of `params` as they came. Arguments may be abstract: nothing is computed."""
    traced, result = jax.make_jaxpr(training, return_shape=True)(params, *inputs)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise ValueError(
            "`training` must return (outputs, statistics): outputs and a tree of the running statistics anew, such "
            f'as `module.apply(..., train=True, mutable=["batch_stats"])` gives; got a {type(result).__name__}.'
        )
    first = len(jax.tree.leaves(result[0]))
    given = set(map(id, traced.jaxpr.invars))
    numbers = jax.tree.unflatten(jax.tree.structure(result[1]), range(len(traced.jaxpr.outvars) - first))
    moved = {path: traced.jaxpr.outvars[first + n] for path, n in by_path(numbers).items()}
    shaped = {path: v for path, v in moved.items() if id(v) not in given}
    if not any(jnp.issubdtype(v.aval.dtype, jnp.floating) for v in shaped.values()):
        raise ValueError(_none(""))


def _none(others: str) -> str:
    return (
        "there are no running statistics to estimate anew: the training function moves no leaf of `params` as an "
        f"average of batches.{others} It is for models with BatchNorm or the like, before their norms are folded "
        "into weights. Leave it out; the method `bias_correction` works without them."
    )


def _evaluated(
    update: Update, params: Any, inputs: tuple[Any, ...], values: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The statistics after one batch that starts from `values`."""
    found = _matched(params, update(replaced(params, values), inputs))
    return {path: found[path] for path in values}


def _momentum(kept: np.ndarray) -> float | str:
    """The part of the old value that remains, the same for every channel and at each probe; or why there is none."""
    momentum = float(np.median(kept))
    if float(np.abs(kept - momentum).max()) <= TOLERANCE and -TOLERANCE <= momentum < 1 - TOLERANCE / 10:
        return max(momentum, 0.0)
    low, high = float(kept.min()), float(kept.max())
    return f"from {low:.4g} to {high:.4g} of its old value remain, where new = k old + (1 - k) batch has one k < 1"


def by_path(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their paths."""
    return {leaf_path(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def replaced(params: Any, values: Mapping[str, Array | np.ndarray]) -> Any:
    """`params` with other values for the leaves of these paths, in the dtypes that they have."""

    def one(path: Any, leaf: Any) -> Any:
        name = leaf_path(path)
        return jnp.asarray(values[name], leaf.dtype) if name in values else leaf

    return jax.tree_util.tree_map_with_path(one, params)


def _matched(params: Any, updated: Any) -> dict[str, np.ndarray]:
    """The leaves that the training function returned, by the path of that one of `params` that each stands for."""
    known = by_path(params)
    found = {}
    for path, leaf in by_path(updated).items():
        # `params` may hold the statistics further down, as in `fn((weights, statistics), x)`.
        ends = [name for name in known if name == path or name.endswith(f"/{path}")]
        if len(ends) == 1 and known[ends[0]].shape == leaf.shape:
            found[ends[0]] = np.asarray(leaf)
    return found


def examples_of(inputs: tuple[Any, ...]) -> int:
    """The number of examples in a batch: the length of its first array."""
    return next((x.shape[0] for x in jax.tree.leaves(inputs) if getattr(x, "ndim", 0)), 1)
