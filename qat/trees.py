"""The structure of a tree of dicts, lists and tuples as JSON, so that a file can be served without the code that made
it."""

from typing import Any

import jax


def skeleton(treedef: Any) -> Any:
    """The structure as JSON, or None where it has other nodes (NNX states, named tuples)."""
    try:
        return _encode(jax.tree.unflatten(treedef, range(treedef.num_leaves)))
    except TypeError:
        return None


def tree_of(encoded: Any, like: Any) -> Any:
    """The tree structure that `skeleton` wrote, or that of `like`; `ValueError` where neither says it."""
    if like is not None:
        return jax.tree.structure(like)
    if encoded is None:
        raise ValueError(
            "the parameters are a tree of other nodes than dicts, lists and tuples. "
            "Give such a tree: `qat.load(path, like=params)`; abstract arrays will do."
        )
    return jax.tree.structure(_decode(encoded))


def _encode(node: Any) -> Any:
    if type(node) is dict and all(isinstance(k, str) for k in node):
        return {"d": {k: _encode(v) for k, v in node.items()}}
    if type(node) in (list, tuple):
        return {"l" if type(node) is list else "t": [_encode(v) for v in node]}
    if node is None or type(node) is int:
        return None if node is None else 0
    raise TypeError(type(node).__name__)


def _decode(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    (kind, inside), *_ = node.items()
    if kind == "d":
        return {k: _decode(v) for k, v in inside.items()}
    values = [_decode(v) for v in inside]
    return values if kind == "l" else tuple(values)
