"""Statistics of every site as plain values, printed as a table, and written to and read from JSON."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

Side = Literal["lhs", "rhs"]
Kind = Literal["weight", "activation"]


@dataclass(frozen=True)
class Histogram:
    """Counts of values in 64 equal bins, from each edge up to but not including the next. The outermost bins also count
    the values beyond the outermost edges.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Operand:
    """A quantized operand of a site.

    `low` and `high` are its clip range: the lowest and highest bound of all channels, and of all calls where the range
    is dynamic; a learned range is the calibrated one times the growth of its scale. `clipped` is the fraction of values
    outside the range of their own channel. `sqnr_db` is the energy of the float values over the energy of their
    quantization error, in dB. `clipped` and `sqnr_db` are None where there were no values, `sqnr_db` also where the
    error is zero.
    """

    key: str
    side: Side
    kind: Kind
    bits: int
    grid: str
    low: float
    high: float
    clipped: float | None
    sqnr_db: float | None
    histogram: Histogram


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A site, or one layer of a site in a layer scan, whose id and path end in the layer's number, `[2]`.

    `rule` is the pattern of its rule; where the site stays in float it is None and `reason` says why. `output_sqnr_db`
    is the energy of the site's float result over the energy of the error from quantizing this site's operands alone, in
    dB; None where the site is float, no batch reached it, or the error is zero.
    """

    id: str
    path: str
    op: str
    rule: str | None
    reason: str | None
    operands: tuple[Operand, ...]
    output_sqnr_db: float | None


@dataclass(frozen=True)
class Layers:
    """The statistics of every site in the order of the function's data flow; prints as a table."""

    sites: tuple[Layer, ...]

    def to_json(self) -> str:
        """The text of a `layers.json`."""
        return json.dumps(asdict(self), allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "Layers":
        """Read the layers that `to_json` wrote. Raises `ValueError` for anything else."""
        try:
            return Layers(tuple(_layer(site) for site in json.loads(text)["sites"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not the statistics of layers ({type(error).__name__}: {error}).") from None

    def __rich__(self) -> Any:
        """The table."""
        from qat.analysis.table import layers_table

        return layers_table(self)

    def __repr__(self) -> str:
        from qat.core.tables import as_text

        return as_text(self.__rich__())


def _layer(values: dict[str, Any]) -> Layer:
    return Layer(**{**values, "operands": tuple(_operand(operand) for operand in values["operands"])})


def _operand(values: dict[str, Any]) -> Operand:
    histogram = {name: tuple(numbers) for name, numbers in values["histogram"].items()}
    return Operand(**{**values, "histogram": Histogram(**histogram)})
