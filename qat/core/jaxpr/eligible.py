"""Equations that are sites, and why some of them cannot be rewritten."""

from typing import Any

from qat.core.jaxpr import layouts
from qat.core.jaxpr.contraction import Location, Operand, contracted
from qat.core.jaxpr.provenance import FLOATS, Info

OPS = {"dot_general": "dot_general", "conv_general_dilated": "conv", "gather": "embedding"}
LISTED_ONLY = {"ragged_dot_general", "ragged_dot"}
LONGEST = 2**17 - 1  # int8 products of a longer contraction may not fit the int32 sum


def is_addition(eqn: Any, args: list[Info]) -> bool:
    """Whether an `add` joins two branches of a network: residual, skip or pyramid connections.

    Both operands are data of the sum's own shape, computed from different sources, at least one of them by a
    contraction or another such addition. So additions of parameters, of masks (made of integers or repeated along an
    axis) and those inside of an activation function or a norm, whose operands have one source, are none.
    """
    if any(a.known or a.broadcast or not a.sources for a in args):
        return False
    if any(v.aval.dtype not in FLOATS or v.aval.shape != eqn.outvars[0].aval.shape for v in eqn.invars):
        return False
    joined = args[0].sources | args[1].sources
    return args[0].sources != args[1].sources and any(isinstance(place[0], int) for place in joined)


def made_by(op: str, location: Location, out: Info) -> frozenset[Location]:
    """The sources of a site's result. The place of a look-up starts with a word, as that of an input does: neither
    multiplies anything."""
    if out.known:
        return frozenset()
    return frozenset([("look-up", *location) if op == "embedding" else location])


def has_no_elements(v: Any) -> bool:
    """Whether a variable's shape has a length of zero."""
    return _is_empty(getattr(v.aval, "shape", ()))


def _is_empty(shape: tuple[Any, ...]) -> bool:
    return any(isinstance(n, int) and n == 0 for n in shape)


def empty_operand(op: str, operands: tuple[Operand, ...], empty_input: bool) -> str | None:
    """Why the contraction multiplies nothing whatever the inputs hold, or None.

    With `empty_input` an empty activation is no reason: the batch itself has no examples.
    """
    sides = operands[: 1 if op == "embedding" else 2]
    empty = any(_is_empty(o.shape) and (o.is_weight or not empty_input) for o in sides)
    return "an operand has no elements at these shapes" if empty else None


def blocked_by(op: str, eqn: Any, args: list[Info], operands: tuple[Operand, ...]) -> str | None:
    """Why a site cannot be rewritten, or None where it can."""
    if op == "add":
        return None
    if op in LISTED_ONLY:
        return f"`{op}` is not rewritten"
    if all(a.known for a in args):
        return "depends on parameters and constants alone"
    if any(a.known and a.origin is None for a in args[:2]) and op != "embedding":
        return "an operand is a constant of the function; pass it in the parameters to quantize it"
    bad = [str(o.dtype) for o in operands[: 1 if op == "embedding" else 2] if o.dtype not in FLOATS]
    if bad:
        return f"{bad[0]} operand; float64, float32, bfloat16 and float16 are rewritten"
    if op == "embedding":
        return _not_lookup(eqn.params, operands[0].shape)
    if op == "conv" and eqn.params["batch_group_count"] != 1:
        return "a convolution with batch groups is not rewritten"
    length = contracted(op, (operands[0], operands[1]), eqn.params)
    if layouts.exceeds(length, LONGEST):
        return f"contracts {length} products, over the {LONGEST} whose sum fits int32"
    return None


def _not_lookup(params: dict[str, Any], shape: tuple[int, ...]) -> str | None:
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    rows = set(numbers.collapsed_slice_dims)
    whole = all(sizes[i] == shape[i] for i in range(len(shape)) if i not in rows)
    if rows == set(numbers.start_index_map) and rows and whole and not numbers.operand_batching_dims:
        return None
    return "a gather that does not look up whole rows"
