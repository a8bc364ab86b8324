"""Parameters by the path of their leaf, and ranges calibrated anew after a method moved what they hold."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from qat.core.jaxpr import leaf_path
from qat.core.plan import make_plan
from qat.core.state import QuantState
from qat.ptq.method import Batches
from qat.transform import Quantized


def by_path(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their paths."""
    return {leaf_path(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def replaced(params: Any, values: Mapping[str, Array | np.ndarray]) -> Any:
    """`params` with other values for the leaves of these paths, in the dtypes that they have."""

    def one(path: Any, leaf: Any) -> Any:
        name = leaf_path(path)
        return jnp.asarray(values[name], leaf.dtype) if name in values else leaf

    return jax.tree_util.tree_map_with_path(one, params)


def activation_ranges_anew(q: Quantized, params: Any, state: QuantState, batches: Batches) -> QuantState:
    """The state with ranges of activations calibrated on these parameters; weights keep theirs, and so the grid points
    that a method chose for them."""
    fresh = q.calibrate(params, batches)
    weights = make_plan(q.fn, q.recipe, params, batches[0]).weights
    clips = {key: (state if key in weights else fresh).clips[key] for key in state.clips}
    learned = {key: (state if key in weights else fresh).learned[key] for key in state.learned}
    return replace(state, clips=clips, learned=learned, observers=fresh.observers)
