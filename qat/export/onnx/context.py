"""State of an export in progress, and the table of lowerings: which function writes which primitive."""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import numpy as np

from qat.core.jaxpr import Location
from qat.export.onnx.dims import Dims
from qat.export.onnx.graph import Graph
from qat.export.onnx.values import Placing, Value, laid_out, tensor

Lowering = Callable[["Context", Any, list[Value]], Value | list[Value]]
LOWERINGS: dict[str, Lowering] = {}
"""Functions of (context, equation, values) that write a primitive into the graph and give its results."""


class UnsupportedError(Exception):
    """A form of a primitive that no lowering writes; the message says which."""


def lowering(*names: str) -> Callable[[Lowering], Lowering]:
    """Make a function the lowering of these primitives; use as a decorator."""

    def register(function: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(names, function))
        return function

    return register


@dataclass(frozen=True)
class CodeTensor:
    """The tensor of a quantized operand's codes: its name, what is added to our codes in it (`offset`), and the logical
    axis that each of its axes is, in a shape that the logical one is reshaped to.

    So our codes are `(tensor - offset).transpose(argsort(order)).reshape(shape of the operand)`.
    """

    name: str
    offset: int
    order: tuple[int, ...]


@dataclass(frozen=True)
class SiteOutputs:
    """Tensors of a quantized site in the graph: the codes of each operand (None for a float one) and the float result.

    `with_bias` says that the result includes the bias that follows the site in the function. `order` is the logical
    axis of the result that each axis of the tensor is (of its rows and columns for a Gemm: None).
    """

    codes: tuple[CodeTensor | None, ...]
    result: str
    _: KW_ONLY
    op: str
    with_bias: bool = False


@dataclass(frozen=True, eq=False)
class Context:
    """The graph that lowerings write to, and the values that they read.

    `operands` are the values of quantized tensors by key, sliced where a loop around is written out; `iterations` are
    the numbers of its passes. `run` writes a jaxpr: (context, jaxpr, values, location) to values. `missing` gathers the
    primitives without a lowering, `sites` the tensors of quantized sites.
    """

    graph: Graph
    dims: Dims
    run: Callable[["Context", Any, list[Value], Location], list[Value]]
    _: KW_ONLY
    plan: Any = None
    operands: Mapping[str, Any] = field(default_factory=dict)
    bits: Mapping[str, int] = field(default_factory=dict)
    iterations: tuple[int, ...] = ()
    missing: dict[str, int] = field(default_factory=dict)
    sites: dict[str, SiteOutputs] = field(default_factory=dict)

    @property
    def opset(self) -> int:
        """The opset of the graph."""
        return self.graph.root.opset

    @property
    def placing(self) -> Placing:
        """The maker of tensors in the layout that an operation needs."""
        return Placing(self.graph, self.dims)

    def within(self, graph: Graph) -> "Context":
        """The context of a subgraph."""
        return replace(self, graph=graph, dims=self.dims.within(graph))

    def full(self, x: Value, order: tuple[int, ...] | None = None) -> str:
        """The tensor of a value in its full shape, with its axes in this order."""
        return self.placing.full(x, order)

    def op(self, op: str, *inputs: str | None, **attributes: Any) -> str:
        """The only result of a new node."""
        return self.graph.op(op, *inputs, **attributes)

    def number(self, value: Any, dtype: Any) -> str:
        """The name of a constant scalar or array."""
        return self.graph.constant(np.asarray(value, dtype))

    def result(self, name: str, eqn: Any, order: tuple[int, ...] | None = None, index: int = 0) -> Value:
        """The value of an equation's result that a tensor holds, whose axes are these logical ones."""
        aval = eqn.outvars[index].aval
        if order is None:
            return tensor(name, aval.shape, aval.dtype)
        return laid_out(name, aval.shape, aval.dtype, order)
