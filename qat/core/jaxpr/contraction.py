"""Description of a contraction in a jaxpr: its name, its operands and where each comes from."""

import re
from dataclasses import KW_ONLY, dataclass
from typing import Any

import jax

Location = tuple[int | str, ...]
"""Indices of equations from the outermost jaxpr down, with the name of the sub-jaxpr between two of them."""

# A leaf of one of these names is *the* weight of its module, so that the module's path names the site. Any other leaf
# names itself, as a module may hold several of them.
PARAMETER_NAMES = {"kernel", "embedding", "weight", "weights", "w", "scale", "table", "kernel_init"}


@dataclass(frozen=True)
class Origin:
    """The parameter leaf that a value comes from.

    `perm` is the permutation of the leaf's axes (less those that `scans` slice off), or None where the value is
    computed by more than one cast and transposes; then `leaf` is only the largest of those it depends on.
    """

    leaf: int
    path: str
    dtype: Any
    _: KW_ONLY
    perm: tuple[int, ...] | None
    cast: bool = False
    scans: tuple[Location, ...] = ()


@dataclass(frozen=True)
class Operand:
    """Shape and dtype of a contraction's operand, and its `origin` where everything it depends on is a parameter.

    Operands of equal `value` are one and the same array.
    """

    shape: tuple[int, ...]
    dtype: Any
    origin: Origin | None
    _: KW_ONLY
    value: Any = None

    @property
    def is_weight(self) -> bool:
        """Whether the operand depends on parameters alone."""
        return self.origin is not None


@dataclass(frozen=True, kw_only=True)
class Contraction:
    """One `dot_general`, `conv`, `embedding` or `add` equation; `blocked` says why it cannot be rewritten, else None.

    `scans` are the enclosing layer scans (which slice stacked parameters) and `scan_lengths` their lengths;
    `trip_count` is how often all scans around it run it (a `while` counts once). `first` and `last` say that no other
    contraction with a weight lies before it, or behind it, in the flow of data; embeddings do not count. A `settled`
    contraction stands in a branch that constants alone choose: if one run does not reach it, none will.
    """

    id: str
    path: str
    op: str
    location: Location
    operands: tuple[Operand, Operand]
    out_shape: tuple[int, ...]
    out_dtype: Any
    equation: Any
    scans: tuple[Location, ...]
    scan_lengths: tuple[int, ...]
    trip_count: int
    blocked: str | None
    first: bool = False
    last: bool = False
    settled: bool = False

    @property
    def params(self) -> dict[str, Any]:
        """The equation's parameters: dimension numbers and the like."""
        return self.equation.params


def leaf_path(key_path: tuple[Any, ...]) -> str:
    """A parameter leaf's key path as `params/encoder/kernel`; NNX's trailing `.value` is dropped."""
    parts = [str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in key_path]
    # The same model must have the same site ids whether its parameters are a plain tree or an NNX state, whose leaves
    # are variables that hold the array in an attribute.
    if len(parts) > 1 and isinstance(key_path[-1], jax.tree_util.GetAttrKey) and parts[-1] in ("value", "raw_value"):
        parts = parts[:-1]
    return "/".join(parts)


def clean_scope(stack: str) -> str:
    """A name stack without the names of transformations (`vmap(x)` -> `x`) and without empty parts."""
    # A site must keep its path under `vmap`, `grad` or `jit`, which wrap each part of the name stack in their own
    # name.
    bare = re.sub(r"\b\w+\(|\)", "", stack)
    return "/".join(part for part in bare.split("/") if part)


def site_path(scope: str, leaf: str | None) -> str:
    """A site's path: its name scope where that names the module, else the parameter's own path without `params` and
    `kernel`."""
    if leaf is None:
        return scope
    parts = leaf.split("/")
    parts = parts[1:] if parts[0] == "params" and len(parts) > 1 else parts
    module = parts[:-1] if parts[-1] in PARAMETER_NAMES and len(parts) > 1 else parts
    scopes = [s for s in scope.split("/") if s and "->" not in s]
    # The scope is preferred where it ends up in the same module: a module that is called twice under two scopes is
    # then told apart. Scopes such as `a->b` (an einsum's subscripts) name no module.
    if any(s == module[-1] or s.startswith(module[-1] + ".") for s in scopes):
        return "/".join(scopes)
    return "/".join(module)


def contracted(op: str, operands: tuple[Operand, Operand], params: dict[str, Any]) -> int:
    """The number of products that are summed into one output."""
    size = 1
    if op == "dot_general":
        (axes, _), _ = params["dimension_numbers"]
        for axis in axes:
            size *= operands[0].shape[axis]
    elif op == "conv":
        # All of the kernel's axes are summed over but the one of output channels. With feature groups the kernel's
        # input axis is already that of one group.
        out_axis = params["dimension_numbers"].rhs_spec[0]
        for axis, length in enumerate(operands[1].shape):
            size *= 1 if axis == out_axis else length
    return size
