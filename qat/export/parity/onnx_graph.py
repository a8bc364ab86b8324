"""Copies of an ONNX graph that show the codes of its sites, or are fed them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qat.core.convert import Converted
from qat.core.operands import ActivationOperand, WeightOperand
from qat.core.plan import Plan, SitePlan
from qat.export.onnx.context import CodeTensor
from qat.export.parity.codes import Place

FED = "_fed"
PASS = "@"


@dataclass(frozen=True)
class Eye:
    """A tensor in which the codes of a site's operand can be seen; `index` is the layer of the scans around the site.

    `feeds` says that its codes are known for every time that the graph computes it.
    """

    place: Place
    tensor: CodeTensor
    index: tuple[int, ...] = ()
    feeds: bool = True

    def codes(self, raw: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
        """Our codes in an operand of this shape; None where the tensor is of another size."""
        if raw.size != math.prod(shape):
            return None
        order = self.tensor.order
        placed = (raw.astype(np.int32) - self.tensor.offset).reshape([shape[i] for i in order])
        return placed.transpose(np.argsort(order))

    def raw(self, codes: np.ndarray, like: np.ndarray) -> np.ndarray:
        """The tensor that holds our codes, of the shape and dtype of another one."""
        placed = codes.astype(np.int32).transpose(self.tensor.order) + self.tensor.offset
        return placed.reshape(like.shape).astype(like.dtype)


def eyes(plan: Plan, sites: Mapping[str, Any]) -> tuple[list[Eye], dict[str, str]]:
    """The tensors of activations' codes, and by site why there are none."""
    found, unseen = [], {}
    for site in plan.sites:
        if site.reason is not None:
            continue
        c, own = site.contraction, list(_activations(site))
        passes = _passes(c.id, sites)
        if not passes:
            unseen[c.id] = "in a loop of the graph, or folded away" if own else ""
        layered = len(c.scan_lengths) > 0
        if layered and any(len(index) != len(c.scan_lengths) for index in passes):
            unseen[c.id] = "in a scan within another loop"
            continue
        chosen = (
            passes if layered else dict([max(passes.items())]) if passes else {}
        )  # of a loop the last pass is known
        for index, outputs in chosen.items():
            for side in own:
                tensor = outputs.codes[side]
                if tensor is not None:
                    feeds = layered or len(passes) == 1
                    found.append(Eye((c.id, side), tensor, index if layered else (), feeds))
    return found, {name: why for name, why in unseen.items() if why}


def _activations(site: SitePlan) -> Iterable[int]:
    return (side for side, operand in enumerate(site.operands) if isinstance(operand, ActivationOperand))


def _passes(name: str, sites: Mapping[str, Any]) -> dict[tuple[int, ...], Any]:
    """The tensors of a site by the numbers of the passes of the loops around it."""
    found = {}
    for key, outputs in sites.items():
        if key == name or key.startswith(name + PASS):
            found[tuple(map(int, key[len(name) :].split(PASS)[1:]))] = outputs
    return found


def with_outputs(proto: Any, names: Iterable[str]) -> Any:
    """A copy whose tensors of these names are outputs too."""
    import onnx

    copy, inferred = onnx.ModelProto(), onnx.shape_inference.infer_shapes(proto)
    copy.CopyFrom(proto)
    types = {one.name: one for one in inferred.graph.value_info}
    there = {one.name for one in copy.graph.output}
    for name in dict.fromkeys(names):
        if name not in there:
            copy.graph.output.append(types.get(name) or onnx.ValueInfoProto(name=name))
    return copy


def cut(proto: Any, names: Iterable[str]) -> Any:
    """A copy in which all that reads a tensor of these names reads a new input, its name with `FED` behind, so that an
    error on the way to one does not reach the next; the tensors themselves are outputs."""
    import onnx

    names = list(dict.fromkeys(names))
    copy = with_outputs(proto, names)
    types = {one.name: one for one in copy.graph.output}
    for node in copy.graph.node:
        _read_fed(node, set(names))
    for name in names:
        one = onnx.ValueInfoProto()
        one.CopyFrom(types[name])
        one.name = name + FED
        copy.graph.input.append(one)
    return copy


def _read_fed(node: Any, names: set[str]) -> None:
    for place, name in enumerate(node.input):
        if name in names:
            node.input[place] = name + FED
    for attribute in node.attribute:
        for inner in attribute.g.node:
            _read_fed(inner, names)


def equal_weights(plan: Plan, converted: Converted, proto: Any, sites: Mapping[str, Any]) -> dict[str, bool]:
    """Tell for each site whether the integer weights in the graph are the converted ones; sites whose weights cannot be
    found are left out."""
    from onnx import numpy_helper

    stored = {one.name: one for one in proto.graph.initializer}
    found: dict[str, bool] = {}
    for site in plan.sites:
        if site.reason is not None:
            continue
        c = site.contraction
        for side, operand in enumerate(site.operands):
            for index, outputs in _passes(c.id, sites).items():
                tensor = outputs.codes[side] if side < len(outputs.codes) else None
                if not isinstance(operand, WeightOperand) or tensor is None or tensor.name not in stored:
                    continue
                have = numpy_helper.to_array(stored[tensor.name]).astype(np.int32) - tensor.offset
                same = _is_weight(np.asarray(converted.weights[operand.key].codes), operand, tensor, have, index)
                found[c.id] = found.get(c.id, True) and same
    return found


def _is_weight(want: np.ndarray, operand: WeightOperand, tensor: Any, have: np.ndarray, index: tuple[int, ...]) -> bool:
    layers = want.ndim - len(operand.perm)
    want = (want[index[:layers]] if layers else want).transpose(operand.perm)
    if have.size != want.size:
        return False
    placed = have.reshape([want.shape[i] for i in tensor.order]).transpose(np.argsort(tensor.order))
    return bool(np.array_equal(placed, want))
