"""The certificate of an exported file's parity: its rows and bounds, and its form as JSON."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field, fields
from typing import Any

from qat.export.parity.counts import CodeCounts, OutputCounts

FORMAT = 1
DIGITS = 16
REFERENCE = "serve"
FLOAT = "float"
SIMULATE = "simulate"


@dataclass(frozen=True)
class MetricScale:
    """The metric that rows are compared by: its name, and how it is shown: times `factor`, in `unit`. `sign` is 1 where
    higher values are better, else -1."""

    name: str
    factor: float = 1.0
    unit: str = ""
    _: KW_ONLY
    sign: int = 1

    def drop(self, value: float, reference: float) -> float:
        """The drop of a value from the reference to the worse, as shown; negative where it is better."""
        return self.factor * self.sign * (reference - value)


@dataclass(frozen=True)
class SiteParity:
    """A site of one way to run the model, compared with `serve`.

    `weights` says whether the integer weights in the file are equal (None where there are none to see). `end_to_end`
    are the codes of its activations where the whole model ran, `fed` where every site was fed the served inputs; None
    where the runtime lets nobody look.
    """

    id: str
    op: str
    _: KW_ONLY
    weights: bool | None = None
    end_to_end: CodeCounts | None = None
    fed: CodeCounts | None = None
    note: str = ""

    @property
    def is_seen(self) -> bool:
        """Whether there is anything to compare."""
        return self.weights is not None or self.end_to_end is not None or self.fed is not None


@dataclass(frozen=True)
class Row:
    """One way to run the model on the same inputs: float, simulated, served, or the exported file in a runtime.

    `about` tells version and settings of a runtime. `outputs` are compared with the reference; None for itself. `notes`
    say in words why there are differences, as far as that is known.
    """

    name: str
    about: str
    _: KW_ONLY
    is_file: bool = False
    outputs: OutputCounts | None = None
    sites: tuple[SiteParity, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def is_equal(self) -> bool:
        """Whether all outputs are those of the reference, to the last bit."""
        return self.outputs is None or self.outputs.different == 0

    @property
    def first_divergence(self) -> str | None:
        """The first site in the order of the data's flow where a code differs; None where no site is seen to differ."""
        return next((s.id for s in self.sites if s.end_to_end is not None and s.end_to_end.different), None)

    def codes(self, fed: bool = False) -> CodeCounts | None:
        """The codes of all sites together; None where none is seen."""
        counts = [one for s in self.sites if (one := s.fed if fed else s.end_to_end) is not None]
        return sum(counts, CodeCounts()) if counts else None


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Bounds that the exported file must keep, each None where there is none.

    `code_share` and `code_difference` are the share and the largest difference of codes where each site is fed the
    served inputs, `output` the largest difference of an output, `metric_drop` the drop of the metric below the served
    model's, as the metric is shown.
    """

    code_share: float | None = None
    code_difference: int | None = None
    output: float | None = None
    metric_drop: float | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"`{one.name}` must be a number from 0 on, got {value!r}.")
        if self.code_share is not None and self.code_share > 1:
            raise ValueError(f"`code_share` is a share in [0, 1], got {self.code_share!r}.")


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The result of a comparison of an exported file with its model.

    `file` is the exported file's name, `content` its digest, `model` that of the model, `kind` the exporter. `inputs`
    says what was run, of the digest `data`. `rows` begin with float, simulate and serve, as far as they could be run;
    `broken` are the `bounds` that the file does not keep, each in a sentence.
    """

    file: str
    kind: str
    content: str
    model: str
    recipe: str | None
    qat: str
    inputs: str
    data: str
    examples: int
    reference: str
    rows: tuple[Row, ...]
    metric: MetricScale | None = None
    notes: tuple[str, ...] = ()
    bounds: Bounds = Bounds()
    broken: tuple[str, ...] = ()

    def row(self, name: str) -> Row:
        """The row of a name."""
        return next(row for row in self.rows if row.name == name)


def broken(certificate: Certificate) -> tuple[str, ...]:
    """The bounds that rows of the exported file do not keep, each in a sentence."""
    return tuple(line for row in certificate.rows if row.is_file for line in _broken(certificate, row))


def _broken(certificate: Certificate, row: Row) -> Iterator[str]:
    bounds = certificate.bounds
    unseen = row.codes(fed=True) is None and not row.is_equal
    codes = row.codes(fed=True) or CodeCounts()
    wanted = {name: getattr(bounds, name) for name in ("code_share", "code_difference")}
    for name, bound in wanted.items():
        if bound is None:
            continue
        value, said = (codes.share, "the share") if name == "code_share" else (codes.largest, "the largest difference")
        if unseen:
            yield f"{row.name}: {said} of codes cannot be seen there, and the outputs are not equal."
        elif value > bound:
            yield f"{row.name}: {said} of codes is {value:.3g}, the bound {bound:g}."
    largest = 0.0 if row.outputs is None else row.outputs.largest
    if bounds.output is not None and not largest <= bounds.output:
        yield f"{row.name}: the largest difference of an output is {largest:.3g}, the bound {bounds.output:g}."
    if bounds.metric_drop is not None and certificate.metric is not None:
        metric = certificate.metric
        drop = metric.drop(row.metrics[metric.name], certificate.row(certificate.reference).metrics[metric.name])
        if not drop <= bounds.metric_drop:
            shown = f"{drop:.3g} {metric.unit}".rstrip().replace("%", "points")
            yield f"{row.name}: the drop of {metric.name} is {shown}, the bound {bounds.metric_drop:g}."


def as_data(certificate: Certificate) -> dict[str, Any]:
    """The certificate as plain data, with a digest of itself."""
    found = {"format": FORMAT, **asdict(certificate)}
    return {**found, "digest": _digest(found)}


def from_data(data: Mapping[str, Any]) -> Certificate:
    """The certificate that `as_data` gave. Raises `ValueError` for anything else, a changed one too."""
    try:
        values = {name: value for name, value in data.items() if name != "digest"}
        if data["digest"] != _digest(values):
            raise ValueError("its content is not what was written")
        if values.pop("format") > FORMAT:
            raise ValueError("a newer qat wrote it: update qat")
        metric = values["metric"]
        return Certificate(
            **{
                **values,
                "rows": tuple(map(_row, values["rows"])),
                "metric": None if metric is None else MetricScale(**metric),
                "bounds": Bounds(**values["bounds"]),
                "notes": tuple(values["notes"]),
                "broken": tuple(values["broken"]),
            }
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no certificate of parity ({error})") from None


def _row(data: Mapping[str, Any]) -> Row:
    outputs = data["outputs"]
    return Row(
        **{
            **data,
            "outputs": None if outputs is None else OutputCounts(**outputs),
            "sites": tuple(map(_site, data["sites"])),
            "notes": tuple(data["notes"]),
        }
    )


def _site(data: Mapping[str, Any]) -> SiteParity:
    counts = {name: data[name] and CodeCounts(**data[name]) for name in ("end_to_end", "fed")}
    return SiteParity(**{**data, **counts})


def _digest(values: Any) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
