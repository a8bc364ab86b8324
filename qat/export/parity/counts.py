"""Counts of differences between two runs of a model: of codes, and of outputs."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class CodeCounts:
    """Codes compared: how many in `total`, how many `different`, by how much at most, and the largest distance of a
    value whose code differs from the nearest boundary between two codes, in steps (None where it is not known)."""

    total: int = 0
    different: int = 0
    largest: int = 0
    _: KW_ONLY
    farthest: float | None = None

    def __add__(self, other: "CodeCounts") -> "CodeCounts":
        known = [one.farthest for one in (self, other) if one.farthest is not None]
        return CodeCounts(
            self.total + other.total,
            self.different + other.different,
            max(self.largest, other.largest),
            farthest=max(known) if known else None,
        )

    @property
    def share(self) -> float:
        """The share of codes that differ."""
        return self.different / self.total if self.total else 0.0


@dataclass(frozen=True)
class OutputCounts:
    """Outputs compared: how many numbers, how many not equal to the last bit, the largest difference and the largest
    number there is; of `decisions` (labels, or the largest of a row of numbers) how many `agree`."""

    total: int = 0
    different: int = 0
    largest: float = 0.0
    _: KW_ONLY
    greatest: float = 0.0
    decisions: int = 0
    agree: int = 0

    def __add__(self, other: "OutputCounts") -> "OutputCounts":
        return OutputCounts(
            self.total + other.total,
            self.different + other.different,
            max(self.largest, other.largest),
            greatest=max(self.greatest, other.greatest),
            decisions=self.decisions + other.decisions,
            agree=self.agree + other.agree,
        )

    @property
    def agreement(self) -> float | None:
        """The share of decisions that are the same; None where the outputs decide nothing."""
        return self.agree / self.decisions if self.decisions else None


def count_codes(wanted: Any, found: Any, margins: Any = None) -> CodeCounts:
    """Compare codes of one shape; `margins` are those of the wanted ones."""
    wanted, found = (np.asarray(x).astype(np.int64) for x in (wanted, found))
    if wanted.shape != found.shape:
        raise ValueError(f"codes to compare must have one shape, got {wanted.shape} and {found.shape}.")
    apart = np.abs(wanted - found)
    where = apart > 0
    farthest = float(np.asarray(margins)[where].max()) if margins is not None and where.any() else None
    return CodeCounts(wanted.size, int(where.sum()), int(apart.max(initial=0)), farthest=farthest)


def count_outputs(wanted: list[Any], found: list[Any], decides: int | None) -> OutputCounts:
    """Compare the arrays that two runs put out; `decides` is the place of the one that decides, see `deciding`."""
    total = OutputCounts()
    for place, (want, have) in enumerate(zip(wanted, found, strict=True)):
        total += _count(np.asarray(want), np.asarray(have), place == decides)
    return total


def _count(want: np.ndarray, have: np.ndarray, decides: bool) -> OutputCounts:
    if want.shape != have.shape:
        raise ValueError(f"outputs to compare must have one shape, got {want.shape} and {have.shape}.")
    wide = np.float64 if want.dtype.kind not in "iub" else np.int64
    a, b = want.astype(wide), have.astype(wide)
    same = (a == b) | (np.isnan(a) & np.isnan(b)) if wide is np.float64 else a == b
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0, np.abs(a - b)).astype(np.float64)
    apart = np.where(np.isnan(apart), math.inf, apart)
    finite = np.abs(a[np.isfinite(a)]).astype(np.float64)
    if not decides:
        decisions = agreed = np.zeros(0)
    elif want.dtype.kind in "iub":
        decisions, agreed = want.reshape(-1), same
    else:
        decisions = want.argmax(-1)
        agreed = decisions == have.argmax(-1)
    return OutputCounts(
        want.size,
        int((~same).sum()),
        float(apart.max(initial=0.0)),
        greatest=float(finite.max(initial=0.0)),
        decisions=int(decisions.size),
        agree=int(np.sum(agreed)),
    )


def deciding(names: list[str], outputs: list[Any]) -> int | None:
    """The place of the output whose decisions are compared: labels where there are any, else logits, else the first
    rows of several numbers; None where there are none."""
    whole = [place for place, x in enumerate(outputs) if np.asarray(x).dtype.kind in "iu"]
    rows = [place for place, x in enumerate(outputs) if np.ndim(x) > 1 and np.shape(x)[-1] > 1]
    named = [place for place in rows if names[place].endswith("logits")]
    return next(iter([*whole, *named, *rows]), None)
