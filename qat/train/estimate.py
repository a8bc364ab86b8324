"""An estimate of what a training step costs, before anything is compiled."""

from typing import Any

import jax
import numpy as np

from qat.train.together import Fit

GRADIENT = 3  # times the forward pass: the gradients for inputs and for parameters cost about as much each


def operations(fit: Fit) -> float:
    """Floating-point operations of a step, by XLA's own count of the loss; as with all its counts a loop of unknown
    length counts once."""
    params, state, batch = (_abstract(tree) for tree in (fit.params, fit.state, fit.batches[0]))

    def value(params: Any, state: Any, batch: Any, seed: Any) -> Any:
        return fit.loss(params, state, batch, jax.random.key(seed), frozen=False)[0]

    found: Any = jax.jit(value).lower(params, state, batch, np.uint32(0)).cost_analysis()
    return GRADIENT * float((found or {}).get("flops", 0.0))


def _abstract(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), jax.numpy.result_type(x)), tree)
