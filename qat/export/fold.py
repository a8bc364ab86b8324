"""Norms folded into the layers before them: the same function, whose weights are those that are served."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax

from qat.core.arguments import Keyworded, split_keywords
from qat.core.jaxpr import Contraction, closes_over_tracers, find, leaf_path, placed, trace
from qat.core.jaxpr.affine import FACTORS, Chain, chains_of, with_scaled_weights
from qat.core.jaxpr.contraction import clean_scope
from qat.core.jaxpr.graph import Graph, Value, scopes_of
from qat.core.plan import SETTINGS
from qat.registry import forgotten_on_change

ROOTS = {"rsqrt", "sqrt"}


@dataclass(frozen=True)
class Norm:
    """A normalization by its path: the id of the site whose weight takes it in, or None and the reason why it stays."""

    path: str
    site: str | None
    reason: str | None = None


@dataclass(frozen=True)
class _Traced:
    """A traced function with its chains, the norms that were found, and the structure of its result."""

    jaxpr: Any
    out_tree: Any
    chains: tuple[Chain, ...]
    norms: tuple[Norm, ...]


@dataclass(frozen=True)
class Folded:
    """A function whose norms are folded; made by `fold_norms`."""

    fn: Callable[..., Any]

    def __call__(self, params: Any, *inputs: Any, **keywords: Any) -> Any:
        """The result of the function, equal up to rounding. Raises `ValueError` where it has no norm to fold."""
        fn, inputs = _bound(self.fn, inputs, keywords)
        traced = _trace(fn, params, inputs)
        if not traced.chains:
            reasons = sorted({f"{norm.path}: {norm.reason}" for norm in traced.norms})[:5]
            raise ValueError(
                "`fn` has no norm that can be folded into the weights before it: "
                f"{'; '.join(reasons) or 'it has none at all'}. Quantize `fn` itself."
            )
        out = with_scaled_weights(traced.jaxpr, traced.chains, jax.tree.leaves((params, *inputs)))
        return jax.tree.unflatten(traced.out_tree, out)

    def norms(self, params: Any, *inputs: Any, **keywords: Any) -> tuple[Norm, ...]:
        """The norms of the function, each with the site that takes it in or the reason why it stays; `params` and
        `inputs` may be abstract."""
        fn, inputs = _bound(self.fn, inputs, keywords)
        return _trace(fn, params, inputs).norms


def fold_norms(fn: Callable[..., Any]) -> Folded:
    """The function of the same `(params, *inputs)` in which norms with running statistics are folded into the weights
    before them (Jacob et al. 2018, arXiv 1712.05877).

    A convolution or dense layer whose result is only shifted and scaled, channel by channel, by what parameters alone
    decide, multiplies by its weight times the factor and adds one bias. The float results are equal up to rounding,
    gradients reach the same parameters, and sites keep their ids; `fold_norms(fn).norms(params, *inputs)` lists what
    was folded, and what was left and why. Norms by statistics of the batch (in training) or of each example stay.

        q = qat.quantize(qat.fold_norms(model.apply), qat.recipe("w8a8"))

    quantizes the weights that are served: training on `q.simulate` trains these integers, with the statistics as they
    are in `params`.
    """
    if not callable(fn):
        raise ValueError(f"`fn` must be a function of (params, *inputs), got {type(fn).__name__}.")
    return Folded(fn)


def _bound(fn: Callable[..., Any], inputs: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, tuple[Any, ...]]:
    if not keywords:
        return fn, inputs
    static, arrays = split_keywords(keywords)
    return Keyworded(fn, static), (*inputs, arrays)


def _trace(fn: Callable[..., Any], params: Any, inputs: tuple[Any, ...]) -> _Traced:
    leaves, tree = jax.tree.flatten((params, *inputs))
    settings = (*(getattr(jax.config, name) for name in SETTINGS), jax.sharding.get_abstract_mesh())
    try:
        return _cached(fn, tree, tuple(placed(leaf) for leaf in leaves), settings)
    except _HoldsTracersError as uncached:
        return uncached.args[0]


class _HoldsTracersError(Exception):
    """Carries a traced function that must not outlive the transformation whose values it closes over."""


@forgotten_on_change
@lru_cache(maxsize=64)
def _cached(fn: Callable[..., Any], tree: Any, avals: tuple[Any, ...], settings: Any) -> _Traced:
    del settings  # a part of the cache key
    params, *inputs = jax.tree.unflatten(tree, avals)
    jaxpr, out_tree = trace(fn, (params, *inputs))
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    contractions = find(jaxpr, leaves)
    graphs = scopes_of(jaxpr, len(leaves), {scan for c in contractions for scan in c.scans})
    paths = [leaf_path(path) for path, _ in leaves]
    chains = chains_of(graphs, contractions)
    moved = _out_of_order(chains, contractions)
    folded = tuple(chain for chain in chains if chain.contraction.id not in moved)
    norms = [_norm(chain, paths, moved) for chain in chains]
    ends = {step.location for chain in chains for step in chain.steps}
    norms += [norm for graph in graphs for norm in _left(graph, ends, paths)]
    traced = _Traced(jaxpr, out_tree, folded, tuple(dict.fromkeys(norms)))
    if closes_over_tracers(jaxpr):
        raise _HoldsTracersError(traced)
    return traced


def _norm(chain: Chain, paths: list[str], moved: set[str]) -> Norm:
    path, site = _path(chain.names, paths[chain.origin]), chain.contraction.id
    if site in moved:
        return Norm(path, None, f"{site} and others of its name are normalized in another order than they are computed")
    return Norm(path, site)


def _path(names: str, leaf: str | None) -> str:
    """The path of a norm: its name scope, or else the module that the leaf is of."""
    return clean_scope(names) or (leaf or "").rpartition("/")[0] or leaf or "a norm"


def _out_of_order(chains: Sequence[Chain], contractions: Sequence[Contraction]) -> set[str]:
    """Ids of folded contractions that another one of their path would overtake, and take the id of: a contraction is
    computed where its chain ends."""
    ends = {chain.contraction.id: chain.end for chain in chains}
    found: set[str] = set()
    for i, c in enumerate(contractions):
        for later in contractions[i + 1 :] if c.id in ends else ():
            if (later.path, later.op) == (c.path, c.op) and _before(ends.get(later.id, later.location), ends[c.id]):
                found |= {c.id, later.id}
    return found


def _before(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    differ = next(((a, b) for a, b in zip(first, second, strict=False) if a != b), None)
    return differ is not None and isinstance(differ[0], int) and isinstance(differ[1], int) and differ[0] < differ[1]


def _left(graph: Graph, folded: set[Any], paths: list[str]) -> Iterator[Norm]:
    """The norms of a graph that are not folded: scales by parameters of an array's channels, and roots of statistics
    that inputs decide."""
    for node in graph.nodes:
        if node.name in ROOTS and node.reads[0] not in graph.known:
            yield Norm(_path(node.names, None), None, "it normalizes by statistics of its inputs")
        if node.name not in FACTORS or node.location in folded:
            continue
        known = [v for v in node.reads if v in graph.known]
        if len(known) == 1 and _is_norm(graph, known[0]):
            data = next(v for v in node.reads if v not in graph.known)
            yield Norm(_path(node.names, paths[graph.origins[known[0]]]), None, _why(graph, data))


def _is_norm(graph: Graph, value: Value) -> bool:
    """Whether a known factor is computed from parameters with a root."""
    seen, open_values = set(), [value] if value in graph.origins else []
    while open_values:
        node = graph.maker.get(open_values.pop())
        if node is None or node.location in seen:
            continue
        if node.name in ROOTS:
            return True
        seen.add(node.location)
        open_values += node.reads
    return False


def _why(graph: Graph, value: Value) -> str:
    """Why what makes `value` does not take in the norm that scales it."""
    while True:
        node = graph.maker.get(value)
        if node is None:
            return "it normalizes an input of the function, or of the loop or remat that it is in"
        if node.name in ("dot_general", "conv_general_dilated") or len(graph.readers.get(value, ())) > 1:
            break
        data = [v for v in node.reads if v not in graph.known]
        if node.name not in ("add", "sub", "convert_element_type", "neg") or len(data) != 1:
            break
        value = data[0]
    if node.name not in ("dot_general", "conv_general_dilated"):
        return f"before it is `{node.name}`, no layer with a weight"
    if len(graph.readers.get(value, ())) > 1:
        return "the layer's result is read elsewhere as well"
    return "the layer before it has no weight whose channels it scales"
