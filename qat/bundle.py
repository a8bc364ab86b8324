"""Many small arrays as a few: every array that a compiled call is given costs it some microseconds, however small."""

import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

SMALL = 4096  # the most elements of an array that is put with others


@dataclass(frozen=True)
class Layout:
    """Where the leaves of a tree are: for each the dtype of the joint array that holds it (None where it is alone) and
    its shape."""

    tree: Any
    leaves: tuple[tuple[str | None, tuple[int, ...]], ...]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.tree, self.leaves))


@partial(jax.tree_util.register_dataclass, data_fields=("joint", "alone"), meta_fields=("layout",))
@dataclass(frozen=True)
class Bundle:
    """A tree of arrays with the small ones of each dtype one after the other in one array."""

    joint: dict[str, Array]
    alone: list[Array]
    layout: Layout


def bundle(tree: Any) -> Bundle:
    """The tree with its small arrays joined; while jax traces, and of arrays on several devices, all stay alone."""
    leaves, structure = jax.tree.flatten(tree)
    joins = _on_one_device(leaves)
    names = [x.dtype.name if joins and _is_small(x) else None for x in leaves]
    parts: dict[str, list[Array]] = {}
    for name, x in zip(names, leaves, strict=True):
        if name:
            parts.setdefault(name, []).append(x)
    with jax.ensure_compile_time_eval():  # a bundle that is kept must hold no value of a trace that it was made in
        joint = {name: jnp.concatenate([jnp.ravel(x) for x in xs]) for name, xs in parts.items()}
    layout = Layout(structure, tuple((name, np.shape(x)) for name, x in zip(names, leaves, strict=True)))
    return Bundle(joint, [x for name, x in zip(names, leaves, strict=True) if name is None], layout)


def _is_small(x: Any) -> bool:
    return isinstance(getattr(x, "dtype", None), np.dtype) and x.size <= SMALL


def _on_one_device(leaves: list[Any]) -> bool:
    if any(isinstance(x, Tracer) for x in leaves):
        return False
    return len({device for x in leaves if isinstance(x, jax.Array) for device in x.devices()}) == 1


def unbundle(bundled: Bundle) -> Any:
    """The tree that was bundled."""
    alone, read, leaves = iter(bundled.alone), dict.fromkeys(bundled.joint, 0), []
    for name, shape in bundled.layout.leaves:
        if name is None:
            leaves.append(next(alone))
            continue
        start, size = read[name], math.prod(shape)
        leaves.append(jax.lax.slice(bundled.joint[name], (start,), (start + size,)).reshape(shape))
        read[name] = start + size
    return jax.tree.unflatten(bundled.layout.tree, leaves)
