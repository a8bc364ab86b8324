"""Running statistics of normalisation re-estimated on the quantized network."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qat.core.state import QuantState
from qat.ptq.method import Batches, Method, Outcome, Subject, register
from qat.ptq.values import activation_ranges_anew, by_path, replaced
from qat.transform import Quantized

VARIANCE = re.compile(r"var(iance)?$")
TOLERANCE = 1e-3  # of a momentum between the channels of one statistic: rounding stays far below, other updates above


@register
def reestimate_bn(ranges: bool = True) -> Method:
    """Give normalisation the statistics of the quantized network: those of unlabelled batches, averaged.

    Rounding changes the mean and the variance of what a layer gives, so the running statistics of the float network
    no longer normalise it; training with quantization re-estimates them on the way, calibration alone never does (Sun
    et al. 2019, arXiv 1909.11623; Li et al. 2021, arXiv 2102.05426, correct them likewise). Each batch gives the mean
    m_b and variance v_b of every normalised value in the simulated training function; with w_b the share of batch b
    in all examples, mean = sum w_b m_b and variance = sum w_b (v_b + m_b**2) - mean**2. With `ranges` the activations'
    ranges are then calibrated anew, the weights keep theirs. Any statistic with an update new = k old + (1 - k) batch
    is found by evaluating that update, whatever module it is of; k is its momentum. Cost: one simulated training
    pass, without gradients, and one calibration pass over the batches.
    """

    def run(subject: Subject, params: Any, state: QuantState, batches: Batches) -> Outcome:
        assert subject.training is not None
        fresh = statistics_of(subject.training, params, state, batches)
        params = replaced(params, fresh)
        if ranges:
            state = activation_ranges_anew(subject.q, params, state, batches)
        return Outcome(params, state, tuple(sorted(fresh)))

    return Method(run, needs=("training",), check=_check)


def _check(subject: Subject, params: Any, state: QuantState, inputs: tuple[Any, ...]) -> None:
    assert subject.training is not None
    _moving(subject.training, params, state, inputs)


def statistics_of(training: Quantized, params: Any, state: QuantState, batches: Batches) -> dict[str, np.ndarray]:
    """The running statistics of the simulated `training` function over all batches, by the path of their leaf.

    Raises `ValueError` where it has none, or one whose update is no moving average.
    """
    momenta = _moving(training, params, state, batches[0])
    zeros = replaced(params, {path: np.zeros_like(leaf) for path, leaf in by_path(params).items() if path in momenta})
    sums: dict[str, np.ndarray] = {}
    total = 0
    for inputs in batches:
        found = _matched(params, _updated(training, zeros, state, inputs))
        seen = {path: found[path].astype(np.float64) / (1 - momentum) for path, momentum in momenta.items()}
        size = _examples(inputs)
        # Second moments add up over batches, variances do not: a batch's own mean lies beside that of all.
        raw = {path: x if (mean := mean_of(path, seen)) is None else x + seen[mean] ** 2 for path, x in seen.items()}
        sums = {path: size * x + sums.get(path, 0.0) for path, x in raw.items()}
        total += size
    averaged = {path: x / total for path, x in sums.items()}
    return {
        path: x if (mean := mean_of(path, averaged)) is None else np.maximum(x - averaged[mean] ** 2, 0.0)
        for path, x in averaged.items()
    }


def mean_of(path: str, known: Mapping[str, Any]) -> str | None:
    """The path of the mean that belongs to a variance; None for what is no variance, or has no mean beside it."""
    mean = VARIANCE.sub("mean", path)
    return mean if mean != path and mean in known else None


def _moving(training: Quantized, params: Any, state: QuantState, inputs: tuple[Any, ...]) -> dict[str, float]:
    """The leaves that the training function moves, with their momentum, from its first batch.

    The update of a moving average is affine in the old value: its value at zero and a rise tell its momentum. The rise
    is measured at two probes of the batch's own size, where rounding is least, and must be the same at both.
    """
    old, new = by_path(params), _matched(params, _updated(training, params, state, inputs))
    moved = [
        path for path, x in new.items() if jnp.issubdtype(x.dtype, jnp.floating) and (x != np.asarray(old[path])).any()
    ]
    if not moved:
        raise ValueError(
            "`reestimate_bn` found no running statistics: the training function moves no leaf of `params`. It is for "
            "models with BatchNorm or the like, before their norms are folded into weights. Leave it out; "
            "`bias_correction` works without."
        )
    at_zero = _evaluated(training, params, state, inputs, {path: np.zeros_like(old[path]) for path in moved})
    kept: dict[str, list[np.ndarray]] = {path: [] for path in moved}
    for share in (1.0, 0.15):
        probe = {path: (share * (1 + 2 * np.abs(x))).astype(x.dtype) for path, x in at_zero.items()}
        for path, x in _evaluated(training, params, state, inputs, probe).items():
            kept[path].append((x.astype(np.float64) - at_zero[path]) / probe[path].astype(np.float64))
    return {path: _momentum(path, np.stack(values)) for path, values in kept.items()}


def _evaluated(
    training: Quantized, params: Any, state: QuantState, inputs: tuple[Any, ...], values: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The statistics after one batch that starts from `values`."""
    found = _matched(params, _updated(training, replaced(params, values), state, inputs))
    return {path: found[path] for path in values}


def _momentum(path: str, kept: np.ndarray) -> float:
    """The part of the old value that remains, the same for every channel and at each probe."""
    momentum = float(np.median(kept))
    if not (float(np.abs(kept - momentum).max()) <= TOLERANCE and -TOLERANCE <= momentum < 1 - TOLERANCE / 10):
        raise ValueError(
            f"`reestimate_bn`: the update of {path!r} is no moving average of batches (from {float(kept.min()):.4g} to "
            f"{float(kept.max()):.4g} of the old value remain). It handles new = k old + (1 - k) batch with one k < 1."
        )
    return max(momentum, 0.0)


def _updated(training: Quantized, params: Any, state: QuantState, inputs: tuple[Any, ...]) -> Any:
    """The tree of statistics that the simulated training function returns after its outputs."""
    result = training.simulate(params, state, *inputs)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise ValueError(
            "`training` must return (outputs, statistics): outputs and a tree of the running statistics anew, such as "
            f'`module.apply(..., train=True, mutable=["batch_stats"])` gives; got a {type(result).__name__}.'
        )
    return result[1]


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


def _examples(inputs: tuple[Any, ...]) -> int:
    """How many examples a batch has: the length of its first array."""
    return next((x.shape[0] for x in jax.tree.leaves(inputs) if getattr(x, "ndim", 0)), 1)
