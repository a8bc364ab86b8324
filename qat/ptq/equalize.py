"""Cross-layer equalization: weights of neighbouring layers scaled to equal ranges, channel by channel."""

from functools import partial
from typing import Any

import jax
import numpy as np

from qat.core.jaxpr.graph import graph_of
from qat.core.plan import Plan, make_plan
from qat.core.state import QuantState
from qat.ptq.method import Batches, Method, Outcome, Subject, register
from qat.ptq.rescaling import Pair, largest, pairs_of, require_equal

LARGEST = 1e4  # factor at one time: a channel that is as good as dead in one layer is no reason to blow up the other
SETTLED = 1e-3


@register
def equalize(sweeps: int = 20) -> Method:
    """Scale channels between layers so that both layers' weights have equal ranges there; the float function stays.

    For channel c between a layer of weights W1 and the next of W2, r1 = max|W1[.., c]| and r2 = max|W2[c, ..]|: the
    first is multiplied by sqrt(r2 / r1), the second divided by it (Nagel et al. 2019, arXiv 1906.04721, section 4.1).
    What stands between must be positively homogeneous: ReLU, leaky ReLU, pooling, means. Behind a normalisation the
    factor goes to its scale and shift, and r1 is that of the weights times what the norm multiplies them by. Depthwise
    triples are two pairs, and all pairs are gone through until they settle, `sweeps` times at most. Ranges are
    calibrated anew. A function without a pair is refused. Cost: no pass but that of calibration.
    """
    if sweeps < 1:
        raise ValueError(f"`sweeps` must be at least 1, got {sweeps}.")

    def run(subject: Subject, params: Any, state: QuantState, batches: Batches) -> Outcome:
        q, inputs = subject.q, batches[0]
        plan = make_plan(q.fn, q.recipe, params, inputs)
        pairs, left = _pairs(plan, params)
        new, most = params, 1.0
        for _ in range(sweeps):
            moved = 0.0
            for pair in pairs:
                factor = _factor(plan, pair, new)
                new = pair.scaled(new, factor)
                size = float(np.abs(np.log(factor)).max())
                moved, most = max(moved, size), max(most, float(np.exp(size)))
            if moved < SETTLED:
                break
        require_equal(q, params, new, inputs)
        changed = tuple(site for pair in pairs for site in pair.readers)
        return Outcome(new, q.calibrate(new, batches), changed, left, {"largest factor": most})

    return Method(run, check=partial(_check), rescales=True)


def _pairs(plan: Plan, params: Any) -> tuple[list[Pair], dict[str, str]]:
    """The pairs of layers; by site why another has none."""
    pairs, left = pairs_of(plan, params)
    of_layers = [pair for pair in pairs if pair.kernels or pair.before is not None]
    alone = "the norm before it follows no layer directly"
    return of_layers, left | {site: alone for pair in pairs if pair not in of_layers for site in pair.readers}


def _check(subject: Subject, params: Any, state: QuantState, inputs: tuple[Any, ...]) -> None:
    pairs, left = _pairs(make_plan(subject.q.fn, subject.q.recipe, params, inputs), params)
    if not pairs:
        why = "; ".join(f"{site}: {reason}" for site, reason in list(left.items())[:3])
        raise ValueError(f"`equalize`: no two layers have channels to scale between them ({why}). Leave it out.")


def _factor(plan: Plan, pair: Pair, params: Any) -> np.ndarray:
    """What a pair's channels are multiplied by: one where a side has no weight at all."""
    leaves = jax.tree.leaves(params)
    if pair.before is not None and not pair.kernels:
        assert pair.gain is not None
        value, axis = pair.gain
        gain = np.asarray(graph_of(plan.jaxpr, len(leaves)).values(leaves, {value})[value])
        first = largest(leaves, pair.before) * np.abs(np.moveaxis(gain, axis, 0).reshape(gain.shape[axis], -1)[:, 0])
    else:
        first = np.max([largest(leaves, along) for along in pair.kernels], axis=0)
    second = np.max([largest(leaves, along) for along in pair.down], axis=0)
    there = (first > 0) & (second > 0)
    factor = np.sqrt(np.where(there, second, 1.0) / np.where(there, first, 1.0))
    return np.clip(factor, 1 / LARGEST, LARGEST)
