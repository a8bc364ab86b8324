"""Certify an exported file: float, simulated, served and exported on the same inputs, compared with each other."""

import hashlib
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qat import __version__
from qat.export.description import Description
from qat.export.exporter import Exportable, names_of
from qat.export.parity.causes import causes
from qat.export.parity.certificate import (
    FLOAT,
    REFERENCE,
    SIMULATE,
    Bounds,
    Certificate,
    MetricScale,
    Row,
    SiteParity,
    broken,
)
from qat.export.parity.codes import Place, Route, Seen, plan_of, served, simulated
from qat.export.parity.counts import CodeCounts, OutputCounts, count_codes, count_outputs, deciding
from qat.export.parity.routes import opened
from qat.export.runnable import check_inputs
from qat.transform import Quantized

DIGITS = 16
OTHER_PROGRAM = (
    "The program that codes were seen in gives other last bits than `serve`: near the boundary between two codes they "
    "may not be those of `serve`."
)
type Batch = tuple[tuple[Any, ...], Any]
"""The model's inputs, and what a score needs to know of them beside the outputs."""


@dataclass(frozen=True)
class Subject:
    """A model as it was exported, with the float parameters and the calibration that it was converted from; where these
    are not there, it is neither run in float nor simulated."""

    exportable: Exportable
    params: Any = None
    state: Any = None


@dataclass(frozen=True)
class Score:
    """The metrics of outputs: `examples(outputs, batch)` gives arrays over examples, `summary` the metrics from those
    of all batches, of which `metric` is the one that counts."""

    examples: Callable[[Any, Any], Mapping[str, Any]]
    summary: Callable[[Mapping[str, np.ndarray]], Mapping[str, float]]
    metric: MetricScale


@dataclass
class _Tally:
    """The differences of a route from the reference so far; by place for codes."""

    outputs: OutputCounts = field(default_factory=OutputCounts)
    end_to_end: dict[Place, CodeCounts] = field(default_factory=dict)
    fed: dict[Place, CodeCounts] = field(default_factory=dict)
    arrays: list[dict[str, np.ndarray]] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)


def certify(
    path: str | Path,
    subject: Subject,
    batches: Iterable[Batch],
    *,
    inputs: str,
    score: Score | None = None,
    bounds: Bounds | None = None,
    runtimes: Sequence[str] = (),
) -> Certificate:
    """The certificate of the exported file at `path`, from batches of inputs that the text `inputs` describes.

    Each batch is cut into as many examples as the file takes, the last filled up with its first one. Raises
    `ValueError` for a file that is damaged, of another model or no program, inputs that it does not take, no batch at
    all, a bound on a metric without `score`, and a runtime that is missing.
    """
    bounds = bounds or Bounds()
    if bounds.metric_drop is not None and score is None:
        raise ValueError("`metric_drop` needs inputs with labels: name a split of the data in the place of a file.")
    file = Path(path)
    description, files = opened(file, subject.exportable, runtimes)
    first, pieces = _peeked(_pieces(batches, description))
    known = [*_known(subject), *files]
    tallies = {route.name: _Tally() for route in known}
    reference = REFERENCE if isinstance(subject.exportable.model, Quantized) else FLOAT
    data, examples = hashlib.sha256(), 0
    for piece in pieces:
        for leaf in jax.tree.leaves(piece.inputs):
            data.update(np.ascontiguousarray(leaf).tobytes())
        examples += piece.count
        _add(tallies, known, reference, piece, score)
    sites = _sites(subject, first.inputs)
    rows = tuple(_row(route, tallies[route.name], sites, reference, score) for route in known)
    found = Certificate(
        file=file.name,
        kind=description.kind,
        content=description.content,
        model=description.model,
        recipe=description.recipe,
        qat=__version__,
        inputs=inputs,
        data=data.hexdigest()[:DIGITS],
        examples=examples,
        reference=reference,
        rows=tuple(replace(row, notes=(*row.notes, *causes(row))) for row in rows),
        metric=None if score is None else score.metric,
        notes=_left_out(subject),
        bounds=bounds,
    )
    return replace(found, broken=broken(found))


@dataclass(frozen=True)
class _Piece:
    """A batch as the file takes it, with the number of its examples that count, and what its score needs."""

    inputs: tuple[Any, ...]
    count: int
    batch: Any


def _pieces(batches: Iterable[Batch], description: Description) -> Iterator[_Piece]:
    for inputs, batch in batches:
        inputs = jax.tree.map(np.asarray, inputs)
        total = len(jax.tree.leaves(inputs)[0])
        size = description.batch if isinstance(description.batch, int) else total
        for start in range(0, total, size):
            part, of = (jax.tree.map(operator.itemgetter(slice(start, start + size)), one) for one in (inputs, batch))
            count = len(jax.tree.leaves(part)[0])
            filled = jax.tree.map(lambda x, n=size - count: np.concatenate([x, np.repeat(x[:1], n, 0)]), part)
            check_inputs(description, filled)
            yield _Piece(filled, count, of)


def _peeked(pieces: Iterator[_Piece]) -> tuple[_Piece, Iterator[_Piece]]:
    first = next(pieces, None)
    if first is None:
        raise ValueError("there must be at least one example to compare on, got none. Is the split empty?")

    def all_of_them() -> Iterator[_Piece]:
        yield first
        yield from pieces

    return first, all_of_them()


def _known(subject: Subject) -> list[Route]:
    """The ways to run the model here: those that the subject has the values for."""
    model, variables = subject.exportable.model, subject.exportable.variables
    here = f"XLA, jax {jax.__version__}, {jax.default_backend()}"
    if not isinstance(model, Quantized):
        compiled = jax.jit(model)
        return [Route(FLOAT, here, lambda inputs: Seen(jax.device_get(compiled(variables, *inputs))))]
    found = []
    if subject.params is not None:
        fn, params = jax.jit(model.fn), subject.params
        found.append(Route(FLOAT, here, lambda inputs: Seen(jax.device_get(fn(params, *inputs)))))
        if subject.state is not None:
            state = subject.state
            found.append(Route(SIMULATE, here, lambda inputs: simulated(model, params, state, inputs)))

    def serve(inputs: tuple[Any, ...]) -> Seen:
        seen, outputs = served(model, variables, inputs), jax.device_get(model.program.serve(variables, *inputs))
        # The program that is looked into is compiled apart from the one that is served, whose outputs are what counts.
        wanted, looked = (jax.tree.leaves(one) for one in (outputs, seen.outputs))
        equal = count_outputs(wanted, looked, None).different == 0
        return replace(seen, outputs=outputs, note="" if equal else OTHER_PROGRAM)

    return [*found, Route(REFERENCE, here, serve)]


def _left_out(subject: Subject) -> tuple[str, ...]:
    if isinstance(subject.exportable.model, Quantized) and (subject.params is None or subject.state is None):
        return ("The variables that the model was converted from are not here: it was not run in float and simulated.",)
    return ()


def _add(
    tallies: dict[str, _Tally], routes: Sequence[Route], reference: str, piece: _Piece, score: Score | None
) -> None:
    """Run every route on a batch and add its differences from the reference."""
    seen = {route.name: route.run(piece.inputs) for route in routes}
    wanted = seen[reference]
    names = names_of(wanted.outputs, "output")
    leaves = [np.asarray(x) for x in jax.tree.leaves(wanted.outputs)]
    decides, tree = deciding(names, leaves), jax.tree.structure(wanted.outputs)
    size = len(jax.tree.leaves(piece.inputs)[0])
    for route in routes:
        tally, found = tallies[route.name], _ordered(seen[route.name].outputs, names, leaves)
        cut = [[x[: piece.count] if x.shape[:1] == (size,) else x for x in one] for one in (leaves, found)]
        tally.notes |= {note: None for note in (seen[route.name].note,) if note}
        tally.outputs += count_outputs(cut[0], cut[1], decides)
        _add_codes(tally.end_to_end, wanted, seen[route.name].codes)
        if route.fed is not None:
            _add_codes(tally.fed, wanted, route.fed(piece.inputs, wanted))
        if score is not None:
            arrays = score.examples(jax.tree.unflatten(tree, cut[1]), piece.batch)
            tally.arrays.append({name: np.asarray(x) for name, x in jax.device_get(arrays).items()})


def _ordered(outputs: Any, names: list[str], like: list[np.ndarray]) -> list[np.ndarray]:
    """The arrays of outputs in the reference's order: a program may give them in a tree of another kind."""
    found = [np.asarray(x) for x in jax.tree.leaves(outputs)]
    by_name = dict(zip(names_of(outputs, "output"), found, strict=True))
    chosen = [by_name[name] for name in names] if set(by_name) == set(names) else found
    if [x.shape for x in chosen] != [x.shape for x in like]:
        raise ValueError(
            f"the exported file gives outputs of shapes {[x.shape for x in chosen]}, the model of "
            f"{[x.shape for x in like]}. Export the model again."
        )
    return chosen


def _add_codes(total: dict[Place, CodeCounts], wanted: Seen, found: Mapping[Place, np.ndarray]) -> None:
    for place, codes in found.items():
        counts = count_codes(wanted.codes[place], codes, wanted.margins.get(place))
        total[place] = total.get(place, CodeCounts()) + counts


def _sites(subject: Subject, inputs: tuple[Any, ...]) -> list[tuple[str, str]]:
    """Ids and kinds of the quantized sites, in the order of the data's flow."""
    model, variables = subject.exportable.model, subject.exportable.variables
    if not isinstance(model, Quantized):
        return []
    sites = plan_of(model, variables, inputs).sites
    return [(site.contraction.id, site.contraction.op) for site in sites if site.reason is None]


def _row(route: Route, tally: _Tally, sites: list[tuple[str, str]], reference: str, score: Score | None) -> Row:
    def counted(counts: dict[Place, CodeCounts], name: str) -> CodeCounts | None:
        own = [one for (site, _), one in counts.items() if site == name]
        return sum(own, CodeCounts()) if own else None

    found = [
        SiteParity(
            name,
            op,
            weights=route.weights.get(name),
            end_to_end=counted(tally.end_to_end, name),
            fed=counted(tally.fed, name),
            note=route.unseen.get(name, ""),
        )
        for name, op in sites
    ]
    is_reference = route.name == reference
    arrays = {name: np.concatenate([one[name] for one in tally.arrays]) for name in (tally.arrays or [{}])[0]}
    return Row(
        route.name,
        route.about,
        is_file=route.name not in (FLOAT, SIMULATE, REFERENCE),
        outputs=None if is_reference else tally.outputs,
        sites=() if is_reference else tuple(s for s in found if s.is_seen or s.note),
        metrics={} if score is None else {name: float(x) for name, x in score.summary(arrays).items()},
        notes=(*route.notes, *tally.notes),
    )
