"""Causes of differences between runtimes, told in words as far as the counts show them."""

from collections.abc import Iterator

from qat.export.parity.certificate import FLOAT, Row
from qat.export.parity.counts import CodeCounts

NEAR = 0.02  # of a step: values this close to the boundary between two codes may round to either
TIE = 0.0


def causes(row: Row) -> tuple[str, ...]:
    """Sentences on why a row's codes and outputs differ from the served ones."""
    return () if row.name == FLOAT else tuple(_causes(row))


def _causes(row: Row) -> Iterator[str]:
    whole, fed = row.codes(), row.codes(fed=True)
    if fed is not None and fed.different:
        yield _by_itself(fed)
    elif whole is not None and whole.different and fed is None:
        yield _by_itself(whole)
    if fed is not None and whole is not None and whole.different > fed.different:
        yield (
            f"End to end {whole.share:.2%} of codes differ, by {whole.largest} at most, where each site by itself has "
            f"{fed.share:.4%}: a code that differs changes what every later site reads."
        )
    if wrong := [site.id for site in row.sites if site.weights is False]:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        yield f"The integer weights of {wrong[0]}{more} are not those of the model: the file is of another conversion."
    if (whole is None or not whole.different) and row.outputs is not None and row.outputs.different:
        seen = "No code differs" if whole is not None else "No code can be seen there"
        yield f"{seen}, but outputs do: float parts behind the last site are computed in another order."


def _by_itself(counts: CodeCounts) -> str:
    many = f"{counts.different:,} of {counts.total:,} codes differ"
    if counts.largest > 1:
        return f"{many}, by {counts.largest} at most: more than rounding explains. Look at the first site that differs."
    if counts.farthest is None:
        return f"{many}, by one."
    if counts.farthest == TIE:
        return (
            f"{many}, by one, all of values halfway between two codes: the runtime rounds halves away from zero, or "
            "divides by the scale where `serve` multiplies by its reciprocal."
        )
    if counts.farthest <= NEAR:
        return (
            f"{many}, by one, all of values within {counts.farthest:.1g} of a step of the boundary between two codes: "
            "the runtime computes float parts (norms, activation functions, the scale of a product) in another order "
            "or with fused operations."
        )
    return (
        f"{many}, by one, of values up to {counts.farthest:.2g} of a step from the boundary between two codes: the "
        "runtime computes float parts with less precision, or adds a bias as an integer at the scale of the product."
    )
