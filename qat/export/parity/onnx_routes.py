"""ONNX files in ONNX Runtime and OpenVINO, with the codes of their sites."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qat.core.plan import Plan
from qat.export.description import Description
from qat.export.exporter import Exportable
from qat.export.parity.codes import Place, Route, Seen, plan_of
from qat.export.parity.onnx_graph import FED, Eye, cut, equal_weights, eyes, with_outputs
from qat.export.sessions import RUNTIMES, Session, chosen_runtimes, saturates
from qat.registry import parse_call
from qat.transform import Quantized

BIASES = (
    "Biases are integers in this file, at the scale of the product: each is rounded by up to half a step of that scale."
)
SATURATES = (
    "On this CPU, which has no VNNI instructions, the runtime adds pairs of 8-bit products in 16 bits and cuts off "
    "what does not fit: sums of large codes come out wrong. Quantize weights with 7 bits for such CPUs."
)
UNKNOWN = "The sites of this file cannot be found, as another version of qat wrote it: only outputs are compared."
SETTINGS = ("opset", "four_bits", "float_biases")  # arguments of the exporter, in its order
OPEN = 2  # the length of open axes where only names are asked for


def open_onnx(
    path: Path, description: Description, exportable: Exportable, runtimes: Sequence[str]
) -> tuple[Route, ...]:
    """Routes of an ONNX file through the runtimes asked for, or those that are installed."""
    chosen = chosen_runtimes(runtimes)
    import onnx

    proto = onnx.load_from_string(path.read_bytes())
    notes = (BIASES,) if _has_integer_biases(proto) else ()
    sites = _sites(proto, description, exportable) if isinstance(exportable.model, Quantized) else {}
    if sites is None:
        sites, notes = {}, (*notes, UNKNOWN)
    return tuple(_route(name, proto, sites, exportable, notes) for name in chosen)


def _has_integer_biases(proto: Any) -> bool:
    from onnx import TensorProto

    whole = {one.name for one in proto.graph.initializer if one.data_type == TensorProto.INT32}
    return any(node.op_type == "DequantizeLinear" and node.input[0] in whole for node in proto.graph.node)


def _sites(proto: Any, description: Description, exportable: Exportable) -> dict[str, Any] | None:
    """The tensors of the sites, which the exporter tells again; None where the file has no such tensors."""
    from qat.export.onnx.export import to_onnx

    _, given, named = parse_call(description.kind)
    settings = {**dict(zip(SETTINGS, given, strict=False)), **named}
    shapes = [tuple(n if isinstance(n, int) else OPEN for n in one.shape) for one in description.inputs.values()]
    arrays = [
        jax.ShapeDtypeStruct(shape, one.dtype) for shape, one in zip(shapes, description.inputs.values(), strict=True)
    ]
    inputs = jax.tree.unflatten(jax.tree.structure(exportable.inputs), arrays)
    dynamic = not isinstance(description.batch, int)
    model = to_onnx(exportable.model, exportable.variables, *inputs, dynamic_batch=dynamic, **settings)
    there = {name for node in proto.graph.node for name in node.output} | {one.name for one in proto.graph.initializer}
    wanted = {tensor.name for site in model.sites.values() for tensor in site.codes if tensor is not None}
    return model.sites if wanted <= there else None


@dataclass
class _Runs:
    """The file in one runtime: whole, with its codes as outputs, and cut at its sites. Sessions are made when first
    needed; `seen` holds the tensors of the last run, whose shapes those that are fed must have."""

    name: str
    proto: Any
    sites: Mapping[str, Any]
    exportable: Exportable
    sessions: dict[str, Session] = field(default_factory=dict)
    plans: dict[Any, tuple[Plan, list[Eye]]] = field(default_factory=dict)
    seen: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def outputs(self) -> list[str]:
        """Names of the file's outputs."""
        return [one.name for one in self.proto.graph.output]

    def session(self, kind: str, proto: Any) -> Session:
        """The session of a copy of the graph."""
        if kind not in self.sessions:
            self.sessions[kind] = RUNTIMES[self.name].load(proto.SerializeToString())
        return self.sessions[kind]

    def plan(self, inputs: tuple[Any, ...]) -> tuple[Plan, list[Eye]]:
        """The sites for inputs of these shapes, and where their codes can be seen."""
        shapes = tuple(np.shape(x) for x in jax.tree.leaves(inputs))
        if shapes not in self.plans:
            found = _plan(self.exportable, inputs)
            self.plans[shapes] = (found, eyes(found, self.sites)[0])
        return self.plans[shapes]

    def feeds(self, inputs: tuple[Any, ...]) -> dict[str, np.ndarray]:
        """The inputs by name."""
        names = [one.name for one in self.proto.graph.input]
        return {name: np.asarray(x) for name, x in zip(names, jax.tree.leaves(inputs), strict=True)}

    def whole(self, inputs: tuple[Any, ...]) -> Seen:
        """Outputs and codes end to end. The outputs are those of the file as it is: more outputs may keep a runtime
        from joining operators."""
        found = self.session("whole", self.proto).run(self.feeds(inputs), self.outputs)
        outputs = [found[name] for name in self.outputs]
        if not self.sites:
            return Seen(outputs)
        plan, places = self.plan(inputs)
        names = list(dict.fromkeys(eye.tensor.name for eye in places))
        self.seen = self.session("seen", with_outputs(self.proto, names)).run(self.feeds(inputs), names)
        return Seen(outputs, codes=_codes(plan, places, self.seen))

    def fed(self, inputs: tuple[Any, ...], served: Seen) -> dict[Place, np.ndarray]:
        """The codes that each site makes of the served codes of all sites before it."""
        plan, places = self.plan(inputs)
        shapes = _shapes(plan)
        known = [
            eye for eye in places if eye.feeds and eye.codes(self.seen[eye.tensor.name], shapes[eye.place]) is not None
        ]
        feeds = self.feeds(inputs)
        for eye in known:
            raw = eye.raw(served.codes[eye.place][eye.index], self.seen[eye.tensor.name])
            feeds[eye.tensor.name + FED] = raw
        names = list(dict.fromkeys(eye.tensor.name for eye in known))
        found = self.session("fed", cut(self.proto, names)).run(feeds, names)
        return _codes(plan, known, found)


def _plan(exportable: Exportable, inputs: tuple[Any, ...]) -> Plan:
    assert isinstance(exportable.model, Quantized)
    return plan_of(exportable.model, exportable.variables, inputs)


def _shapes(plan: Plan) -> dict[Place, tuple[int, ...]]:
    return {
        (site.contraction.id, side): operand.shape
        for site in plan.sites
        for side, operand in enumerate(site.contraction.operands)
    }


def _codes(plan: Plan, places: Sequence[Eye], found: Mapping[str, np.ndarray]) -> dict[Place, np.ndarray]:
    """Our codes by place, layers of scans on axes in front; a place of which a layer is missing is left out."""
    shapes, scans = _shapes(plan), {site.contraction.id: site.contraction.scan_lengths for site in plan.sites}
    layers: dict[Place, dict[tuple[int, ...], np.ndarray]] = {}
    for eye in places:
        codes = eye.codes(found[eye.tensor.name], shapes[eye.place])
        if codes is not None:
            layers.setdefault(eye.place, {})[eye.index] = codes
    whole = {}
    for place, own in layers.items():
        lengths = scans[place[0]]
        if set(own) == set(np.ndindex(*lengths)):
            stacked = np.stack([own[index] for index in np.ndindex(*lengths)])
            whole[place] = stacked.reshape(*lengths, *shapes[place])
    return whole


def _route(name: str, proto: Any, sites: Mapping[str, Any], exportable: Exportable, notes: tuple[str, ...]) -> Route:
    runs = _Runs(name, proto, sites, exportable)
    about = runs.session("whole", proto).about
    notes = (*notes, SATURATES) if sites and saturates(name) else notes
    if not sites:
        return Route(name, about, runs.whole, notes=notes)
    plan = _plan(exportable, exportable.inputs)
    weights = equal_weights(plan, exportable.variables, proto, sites)
    unseen = eyes(plan, sites)[1]
    return Route(name, about, runs.whole, fed=runs.fed, weights=weights, unseen=unseen, notes=notes)
