"""Codes of an exported ONNX model in ONNX Runtime, each site fed the codes that serving gives to it."""

import collections
from dataclasses import dataclass

import jax
import numpy as np
import onnx

from qat.export.onnx.session import ort_session
from qat.export.parity.codes import served

QLINEAR = ("QLinearConv", "QGemm", "QLinearMatMul", "QLinearAdd")
INTEGER_PRODUCTS = (*QLINEAR, "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "ConvInteger")


@dataclass(frozen=True)
class Compared:
    """Codes that differ from the served ones: how many of how many, by how much at most, and how far at most such a
    value is from the boundary between its codes, in steps; and the served outputs."""

    different: int
    total: int
    largest: int
    farthest: float
    outputs: tuple


def run(model, inputs, **settings):
    """Outputs of an exported model in ONNX Runtime."""
    session = ort_session(model.proto.SerializeToString(), threads=1, **settings)
    known = {one.name for one in session.get_inputs()}
    feeds = dict(zip(model.inputs, map(np.asarray, jax.tree.leaves(inputs)), strict=True))
    return session.run(list(model.outputs), {name: x for name, x in feeds.items() if name in known})


def operators(model, folder):
    """Counts of the operators that ONNX Runtime runs for a model."""
    path = folder / "optimized.onnx"
    ort_session(model.proto.SerializeToString(), threads=1, optimized=path)
    return collections.Counter(node.op_type for node in onnx.load(path).graph.node)


def compared(q, converted, model, inputs):
    """The codes of all activations in ONNX Runtime beside those that are served."""
    seen = served(q, converted, inputs)
    tensors = {
        (site, side): one
        for site, outputs in model.sites.items()
        for side, one in enumerate(outputs.codes)
        if (site, side) in seen.codes
    }
    proto = _cut(model.proto, {one.name for one in tensors.values()})
    shapes = {one.name: [d.dim_value for d in one.type.tensor_type.shape.dim] for one in proto.graph.output}
    feeds = dict(zip(model.inputs, map(np.asarray, jax.tree.leaves(inputs)), strict=True))
    wanted, margins = {}, {}
    for place, one in tensors.items():

        def placed(x, one=one):
            return x.transpose(one.order).reshape(shapes[one.name])

        wanted[one.name] = placed(seen.codes[place].astype(np.int32)) + one.offset
        margins[one.name] = placed(seen.margins[place])
        feeds[one.name + "_fed"] = wanted[one.name].astype(np.uint8)
    found = ort_session(proto.SerializeToString(), threads=1).run(list(wanted), feeds)
    off = {name: np.abs(x.astype(np.int32) - wanted[name]) for name, x in zip(wanted, found, strict=True)}
    return Compared(
        sum(int((x > 0).sum()) for x in off.values()),
        sum(x.size for x in off.values()),
        max(int(x.max()) for x in off.values()),
        max(float(margins[name][x > 0].max(initial=0)) for name, x in off.items()),
        tuple(jax.tree.leaves(seen.outputs)),
    )


def _cut(proto, names):
    """A copy in which all that reads these tensors reads inputs; the tensors are outputs."""
    copy = onnx.shape_inference.infer_shapes(proto)
    types = {one.name: one for one in copy.graph.value_info}
    for node in copy.graph.node:
        node.input[:] = [f"{name}_fed" if name in names else name for name in node.input]
    del copy.graph.output[:]
    for name in sorted(names):
        copy.graph.output.append(types[name])
        copy.graph.input.append(types[name])
        copy.graph.input[-1].name += "_fed"
    return copy
