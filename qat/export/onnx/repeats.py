"""Tensors that are there several times: maps that repeat others, and weights that several products share.

Where a tensor repeats another one, as an upsampled map does, the other one is quantized and its codes are repeated. So
fewer values are quantized, and where further readers quantize the other one with the same scale, that is the same
node: the convolution before it fuses.
"""

import itertools
from collections.abc import Sequence

import ml_dtypes
import numpy as np

from qat.export.onnx.graph import Graph, Node

REPEATS = "Expand"
MOVES = (REPEATS, "Reshape", "Transpose", "Unsqueeze", "Squeeze")


def unrepeated(graph: Graph, name: str) -> tuple[str, list[Node]]:
    """The tensor that this one repeats, and the nodes from it to this one; the tensor itself where none repeats it."""
    moves, source = [], name
    while (maker := graph.producer(source)) is not None and maker.op in MOVES:
        moves.append(maker)
        source = maker.inputs[0]
    return (source, moves[::-1]) if any(node.op == REPEATS for node in moves) else (name, [])


def moved(graph: Graph, name: str, moves: Sequence[Node]) -> str:
    """A tensor taken through copies of these nodes."""
    for node in moves:
        name = graph.op(node.op, name, *node.inputs[1:], **node.attributes)
    return name


def own_weight(graph: Graph, weight: np.ndarray) -> tuple[str, np.dtype]:
    """A tensor that holds a weight for one product alone, its bytes stored once, and its dtype.

    Where ONNX Runtime packs weights or makes them unsigned, it names the new tensor after the old one, and fails at a
    second product of the same tensor. So further products read it through reshapes to its own shape, which runtimes
    compute once; no two of them are written alike, or ONNX Runtime would join them. It reshapes no INT4: further
    products of such a weight share one of 8 bits.
    """
    name = graph.constant(weight, "weight")
    number = graph.root.uses.get(name, 0)
    if number and weight.dtype == ml_dtypes.int4:
        return own_weight(graph, weight.astype(np.int8))
    graph.root.uses[name] = number + 1
    forms = _forms(weight.shape)
    # Digits of the number in the bijective numeration of this base: each number has a row of reshapes of its own.
    while number:
        number, form = divmod(number - 1, len(forms))
        name = graph.op("Reshape", name, graph.constant(np.array(forms[form], np.int64), "shape"))
    return name, weight.dtype


def _forms(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Targets of a Reshape that all mean this shape: 0 takes a length from the input, a -1 what is left."""
    zeros = list(itertools.product(*((n, 0) for n in shape)))
    left = {tuple(-1 if i == at else n for i, n in enumerate(form)) for form in zeros for at in range(len(shape))}
    return [*zeros, *sorted(left)]
