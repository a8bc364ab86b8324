"""What a pytree is made of, in words: for errors that say which leaf differs, and for the checkpoint's record."""

from typing import Any

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
