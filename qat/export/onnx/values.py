"""Values of a traced function during the export: where each is in the graph, in which layout, and constants.

Transposes and repetitions are not computed where they occur but kept in the value, until an operation needs them. So
the layouts that convolutions want meet without a transpose between them.
"""

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import numpy as np

from qat.export.onnx.dims import Dims, is_static
from qat.export.onnx.graph import Graph, onnx_dtype


@dataclass(frozen=True, eq=False)
class Value:
    """A value of the function: a tensor of the graph (`name`), a `constant`, or neither where it was dropped.

    `shape` is the function's. Logical axis `i` is stored as axis `axes[i]`; the axes in `ones` are stored with length
    one though they are longer. Constants are stored in the function's order of axes.
    """

    shape: tuple[Any, ...]
    dtype: np.dtype
    name: str | None = None
    _: KW_ONLY
    constant: np.ndarray | None = None
    axes: tuple[int, ...] = ()
    ones: frozenset[int] = frozenset()

    @property
    def known(self) -> bool:
        """Whether it depends on no input of the exported graph."""
        return self.constant is not None

    @property
    def dropped(self) -> bool:
        """Whether it is made of float weights that conversion dropped."""
        return self.name is None and self.constant is None

    @property
    def stored_shape(self) -> tuple[Any, ...]:
        """The shape of its tensor in the graph."""
        lengths = [1 if i in self.ones else n for i, n in enumerate(self.shape)]
        return tuple(lengths[i] for i in self.order)

    @property
    def order(self) -> tuple[int, ...]:
        """The logical axis at each stored place."""
        return tuple(sorted(range(len(self.axes)), key=lambda i: self.axes[i]))

    def array(self) -> np.ndarray:
        """The constant in its full shape."""
        assert self.constant is not None
        return np.broadcast_to(self.constant, self.shape)


def constant(array: Any, shape: tuple[Any, ...] | None = None) -> Value:
    """A known value; of a longer `shape` where the array has length one on some axes."""
    array = np.asarray(array)
    array = array.astype(onnx_dtype(array.dtype)) if array.dtype != onnx_dtype(array.dtype) else array
    whole: tuple[Any, ...] = array.shape if shape is None else tuple(shape)
    ones = frozenset(i for i, (have, n) in enumerate(zip(array.shape, whole, strict=True)) if have == 1 and _longer(n))
    return Value(whole, array.dtype, constant=array, axes=tuple(range(len(whole))), ones=ones)


def _longer(n: Any) -> bool:
    return not (isinstance(n, int) and n == 1)


def tensor(name: str, shape: Iterable[Any], dtype: Any) -> Value:
    """A value that a tensor of the graph holds as it is."""
    shape = tuple(shape)
    return Value(shape, onnx_dtype(dtype), name, axes=tuple(range(len(shape))))


def dropped(aval: Any) -> Value:
    """A value that is nowhere."""
    return Value(tuple(aval.shape), np.dtype(np.float32))


def transposed(x: Value, permutation: Iterable[int]) -> Value:
    """The value with its logical axes permuted; nothing is computed."""
    permutation = tuple(permutation)
    shape = tuple(x.shape[p] for p in permutation)
    ones = frozenset(i for i, p in enumerate(permutation) if p in x.ones)
    if x.constant is not None:
        return replace(x, shape=shape, constant=x.constant.transpose(permutation), ones=ones)
    return replace(x, shape=shape, axes=tuple(x.axes[p] for p in permutation) if x.axes else (), ones=ones)


@dataclass(frozen=True, eq=False)
class Placing:
    """Makes tensors of values in the layout that an operation needs."""

    graph: Graph
    dims: Dims

    def compact(self, x: Value, order: tuple[int, ...] | None = None) -> str:
        """The tensor with its logical axes in this order (None: as they are); repeated axes may have length one."""
        order = tuple(range(len(x.shape))) if order is None else order
        if x.constant is not None:
            return self.graph.constant(_shortened(x.constant).transpose(order) if order else x.constant)
        assert x.name is not None, "a float weight that conversion dropped is read"
        return self.graph.transpose(x.name, [x.axes[i] for i in order]) if order else x.name

    def full(self, x: Value, order: tuple[int, ...] | None = None) -> str:
        """The tensor with its logical axes in this order (None: as they are), nothing left to repeat."""
        order = tuple(range(len(x.shape))) if order is None else order
        if x.constant is not None and is_static(x.shape):
            array = x.array()
            return self.graph.constant(array.transpose(order) if order else array)
        name = self.compact(x, order)
        shape = tuple(x.shape[i] for i in order)
        return self.graph.op("Expand", name, self.dims.shape(shape)) if short_axes(x) else name

    def stored(self, x: Value) -> tuple[str, tuple[int, ...]]:
        """The tensor in the layout that it has, nothing left to repeat, and the order of its logical axes."""
        return self.full(x, x.order), x.order

    def reshape(self, name: str, shape: Iterable[Any]) -> str:
        """The tensor in another shape; a reshape before it is left out."""
        shape = tuple(shape)
        maker = self.graph.producer(name)
        if maker is not None and maker.op == "Reshape":
            name = maker.inputs[0]
        return self.graph.op("Reshape", name, self.dims.target(shape))


def short_axes(x: Value) -> frozenset[int]:
    """The axes along which a value repeats, and which `compact` gives with length one."""
    if x.constant is None:
        return x.ones
    return frozenset(i for i, n in enumerate(_shortened(x.constant).shape) if n == 1 and _longer(x.shape[i]))


def _shortened(array: np.ndarray) -> np.ndarray:
    """The array with length one on axes along which it repeats."""
    for axis in range(array.ndim):
        if array.shape[axis] > 1:
            first = np.take(array, [0], axis)
            if array.strides[axis] == 0 or np.array_equal(np.broadcast_to(first, array.shape), array):
                array = first
    return array


def laid_out(name: str, logical_shape: Iterable[Any], dtype: Any, order: Iterable[int]) -> Value:
    """The value that a tensor holds whose stored axes are these logical ones."""
    order = tuple(order)
    shape = tuple(logical_shape)
    return Value(shape, onnx_dtype(dtype), name, axes=tuple(order.index(i) for i in range(len(order))))
