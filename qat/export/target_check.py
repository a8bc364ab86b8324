"""Sites of a quantized function held against a target: which run in integers there, which do not, and why."""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

import jax
from rich.box import SIMPLE_HEAD
from rich.table import Table

from qat.core.convert import Converted
from qat.core.jaxpr import Contraction, layouts
from qat.core.jaxpr.graph import Graph, Node, Value, graph_of
from qat.core.operands import ActivationOperand, WeightOperand
from qat.core.plan import Plan, SitePlan, macs, make_plan
from qat.core.tables import as_text
from qat.export.targets import Kind, Target, build, recipe_for
from qat.numerics import WITH_ZERO_POINT
from qat.recipes.recipe import TensorSpec
from qat.transform import Quantized

Runs = Literal["integers", "weights", "float", "unknown"]
"""In integers; on integer weights and float activations; in float; not known, inside of a loop or branch."""

MOVES = {
    "convert_element_type", "copy", "expand_dims", "optimization_barrier", "reduce_window_max", "reshape", "slice",
    "squeeze", "stop_gradient", "transpose",
}  # fmt: skip
"""Primitives past which a runtime moves a quantization by itself (ONNX Runtime 1.32, measured)."""
SAME = {"convert_element_type", "copy", "optimization_barrier", "stop_gradient"}
BEFORE = {"broadcast_in_dim", "concatenate", "gather", "pad", "rev"}
"""Primitives that hand on codes where a file has a quantization in front of them too."""
CLAMPS = {"max", "min", "clamp"}
SHIFTS = {"add", "sub"}
RESULT, CLAMPED, MOVED = range(3)  # where a rescale may still take in a bias and clamps, clamps alone, neither
FOLD = "a norm or scale between it and what reads it keeps the rescale from fusing: fold it (`qat.fold_norms`)"


@dataclass(frozen=True)
class TargetSite:
    """A site on a target: what it `runs` in, and why not in integers where it does not. `recipe` says that the recipe
    is the reason, `notes` what else is worth knowing."""

    id: str
    kind: Kind
    runs: Runs
    why: str = ""
    _: KW_ONLY
    recipe: bool = False
    notes: tuple[str, ...] = ()
    macs: int = 0


@dataclass(frozen=True)
class TargetCheck:
    """The sites of a function on a target, in the order of its data flow; prints as a table."""

    target: Target
    sites: tuple[TargetSite, ...]

    @property
    def satisfied(self) -> bool:
        """Whether the recipe asks for nothing that the target lacks. What the model's own structure keeps in float
        does not count."""
        return not any(site.recipe for site in self.sites)

    @property
    def share(self) -> float:
        """The share of all multiply-accumulates that run in integers."""
        return sum(s.macs for s in self.sites if s.runs == "integers") / max(sum(s.macs for s in self.sites), 1)

    def __rich__(self) -> Table:
        """The table."""
        columns = ("site", "kind", "runs in", "why")
        table = Table(*columns, title=self.target.name, title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
        for site in self.sites:
            told = "; ".join(filter(None, (site.why, *site.notes)))
            table.add_row(site.id, site.kind, site.runs, told, style="" if site.runs == "integers" else "dim")
        count = sum(site.runs == "integers" for site in self.sites)
        table.caption = f"{count} of {len(self.sites)} sites in integers, {self.share:.1%} of the multiplications"
        return table

    def __repr__(self) -> str:
        return as_text(self.__rich__())


def check_target(q: Quantized, params: Any, *inputs: Any, target: str, **keywords: Any) -> TargetCheck:
    """Hold every site of a quantized function against a target such as `ort-cpu`.

    `params` are parameters or what `convert` returned; of arguments only shapes and dtypes count.
    """
    profile = build(target)
    q, inputs = q.with_keywords(keywords, *inputs)
    params = params.structure.abstract if isinstance(params, Converted) else params
    plan = make_plan(q.fn, q.recipe, params, inputs)
    graph = graph_of(plan.jaxpr, len(jax.tree.leaves(params)))
    return TargetCheck(profile, tuple(_site(profile, plan, graph, site) for site in plan.sites))


def require_target(q: Quantized, params: Any, *inputs: Any, target: str, **keywords: Any) -> TargetCheck:
    """The check of `check_target`. Raises `ValueError` where the recipe asks for what the target lacks."""
    found = check_target(q, params, *inputs, target=target, **keywords)
    bad = [site for site in found.sites if site.recipe]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise ValueError(
            f"recipe {q.recipe.name!r} does not suit {found.target.name}: {bad[0].id}{more}: {bad[0].why}. "
            f"Quantize with {recipe_for(found.target.name).name!r} (`qat.recipe_for({found.target.name!r})`), or leave "
            "out the target."
        )
    return found


def kind_of(c: Contraction) -> Kind:
    """A site by what a runtime makes of it."""
    if c.op in ("embedding", "add"):
        return c.op
    if c.op == "conv":
        numbers, groups = c.params["dimension_numbers"], c.params["feature_group_count"]
        return "depthwise conv" if groups > 1 and c.operands[1].shape[numbers.rhs_spec[1]] == 1 else "conv"
    return "dense" if any(o.is_weight for o in c.operands) else "product"


def _site(target: Target, plan: Plan, graph: Graph, site: SitePlan) -> TargetSite:
    c = site.contraction
    kind, count = kind_of(c), macs(c) * c.trip_count
    if site.reason is not None:
        return TargetSite(c.id, kind, "float", site.reason, macs=count)
    weights = [plan.weights[o.key].spec for o in site.operands if isinstance(o, WeightOperand)]
    activations = [o.spec for o in site.operands if isinstance(o, ActivationOperand)]
    floats = kind != "embedding" and None in site.operands
    bad = next(_unsuitable(target, kind, weights, activations, floats), None)
    if bad:
        return TargetSite(c.id, kind, "float", bad, recipe=True, macs=count)
    notes = tuple(_notes(target, weights if floats else [*weights, *activations], floats))
    if floats:
        return TargetSite(c.id, kind, "weights", "its activations are float", notes=notes, macs=count)
    if kind not in target.kinds:
        return TargetSite(c.id, kind, "float", f"{target.name} has no integer {kind}", notes=notes, macs=count)
    if kind in target.float_results:
        return TargetSite(c.id, kind, "integers", notes=notes, macs=count)
    node = graph.at.get(c.location)
    if node is None:
        why = "it stands in a loop or branch, where what reads it is not looked at"
        return TargetSite(c.id, kind, "unknown", why, notes=notes, macs=count)
    readers = _Readers(target, plan, graph)
    why = readers.problem(node)
    if readers.before and not why:
        notes = (*notes, f"quantized in front of {', '.join(f'`{name}`' for name in readers.before)} too")
    return TargetSite(c.id, kind, "float" if why else "integers", why or "", notes=notes, macs=count)


def _unsuitable(
    target: Target, kind: Kind, weights: list[TensorSpec], activations: list[TensorSpec], floats: bool
) -> Iterator[str]:
    """Reasons why the target has no form for a site with these specs."""
    for spec in weights:
        if spec.grid in WITH_ZERO_POINT:
            yield f"its weights have a zero point, {target.name} takes symmetric ones"
        if spec.per not in target.weights and not (floats and target.groups):
            yield f"its weights have scales per {spec.per}, {target.name} takes them per {' or '.join(target.weights)}"
        if floats and spec.bits not in target.weight_only:
            forms = ", ".join(map(str, target.weight_only)) or "none"
            yield f"weights of {spec.bits} bits alone: with float activations {target.name} multiplies {forms}"
    for spec in activations:
        if spec.dynamic and (spec.per not in target.dynamic or kind not in ("dense", "product")):
            yield f"its activations have dynamic ranges per {spec.per}, {target.name} has no such {kind}"
        if spec.grid not in target.grids:
            what = "no zero" if spec.grid == "midrise" else "a zero point"
            yield f"its activations have {what}, {target.name} takes symmetric ones (grid='symmetric')"
    if not weights and floats:
        yield "only one of its two activations is quantized"
    if target.power_of_two:
        yield f"{target.name} takes scales that are powers of two, which no quantizer here makes"


def _notes(target: Target, specs: list[TensorSpec], floats: bool) -> Iterator[str]:
    widths = target.weight_only if floats else target.widths
    for bits in dict.fromkeys(spec.bits for spec in specs):
        if bits not in widths:
            yield f"codes of {bits} bits are stored in {min(w for w in widths if w > bits)} bits"


@dataclass
class _Readers:
    """What reads a site's result, followed through operations that hand on codes; `before` are those in front of which
    a file must quantize too."""

    target: Target
    plan: Plan
    graph: Graph
    before: dict[str, None] = field(default_factory=dict)

    def problem(self, start: Node) -> str | None:
        """Why the site's rescale does not fuse into a quantization of its result, or None."""
        grids: set[str] = set()
        open_values = [(value, RESULT) for value in start.makes]
        seen = {*start.makes}
        # Invariant: all values in `seen` are the result, but for a bias and clamps; those in `open_values` still have
        # readers to be looked at.
        while open_values:
            value, stage = open_values.pop()
            if value in self.graph.outputs:
                return "the function returns its result in float"
            for node in self.graph.readers.get(value, ()):
                site = self.plan.quantized.get(node.location)
                if site is not None:
                    grids.update(self._keys(site, node, value))
                    if stage == CLAMPED and self.target.codes == "uint8" and self._is_symmetric(site, node, value):
                        return "a clamp before symmetric codes does not fuse: grid='affine'"
                    continue
                if why := self._stops(node, value, stage):
                    return why
                then = max(stage, CLAMPED if node.name in CLAMPS else RESULT if node.name in SHIFTS | SAME else MOVED)
                open_values += [(v, then) for v in node.makes if v not in seen]
                seen.update(node.makes)
        return f"what reads it quantizes it on {len(grids)} grids" if len(grids) > 1 else None

    def _keys(self, site: SitePlan, node: Node, value: Value) -> Iterator[str]:
        for operand, read in zip(site.operands, node.reads, strict=False):
            if read == value:
                yield operand.key if isinstance(operand, ActivationOperand) else f"{site.contraction.id} in float"

    def _is_symmetric(self, site: SitePlan, node: Node, value: Value) -> bool:
        read = [o for o, v in zip(site.operands, node.reads, strict=False) if v == value]
        return any(isinstance(o, ActivationOperand) and o.spec.grid == "symmetric" for o in read)

    def _stops(self, node: Node, value: Value, stage: int) -> str | None:
        """Why a node reads the result in float, or None where it hands on codes."""
        others = [v for v in node.reads if v != value]
        known = bool(others) and all(v in self.graph.known for v in others)
        if node.name in BEFORE:
            self.before[node.name] = None
            return None
        # `sub` of the mean and `mul` by the scale are what a norm in inference is made of; a bias fuses as it is.
        if node.name in MOVES or (node.name in CLAMPS and known and stage < MOVED):
            return None
        if node.name in SHIFTS and known and stage == RESULT:
            return None if self._is_bias(others[0]) else "what is added to it is no bias of its channels"
        if node.name in ("mul", "div") and known and stage == RESULT:
            return None if self.target.norms else FOLD
        if node.name == "add" and not known:
            return "an addition reads it in float: adds=True"
        unread = next((s for s in self.plan.sites if s.contraction.location == node.location), None)
        if unread is not None:
            return f"{unread.contraction.id} reads it in float: {unread.reason}"
        inside = any(True for _ in layouts.subjaxprs(node.equation))
        return f"a loop or branch (`{node.name}`) reads it" if inside else f"`{node.name}` reads it in float"

    def _is_bias(self, value: Value) -> bool:
        """Whether a value is one number for each channel, or one, repeated along the other axes."""
        while sum(n != 1 for n in self.graph.shapes[value]) > 1:
            node = self.graph.maker.get(value)
            if node is None or node.name not in ("broadcast_in_dim", "reshape", "transpose", "convert_element_type"):
                return False
            value = node.reads[0]
        return True
