"""What is shown about two arms, of many that were compared: better, worse, equivalent or undecided."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from qat.stats.correction import holm
from qat.stats.evidence import Doubt, Evidence, Kind
from qat.stats.seeds import check_margin
from qat.stats.words import sentence

type Told = Literal["gain", "drop"]
"""In which direction a difference is told: a gain is first minus second, a drop second minus first."""

P_VALUES = ("p_difference", "p_equivalence", "p_not_better", "p_not_worse")


@dataclass(frozen=True)
class Comparison:
    """Two arms by name and the evidence about them: over seeds, and over items where arrays of them were at hand; and
    how their difference is `told`."""

    first: str
    second: str
    seeds: Evidence | None = None
    items: Evidence | None = None
    told: Told = "gain"


@dataclass(frozen=True)
class Verdict:
    """What is shown of `first` against `second`, with the p-values that Holm corrected.

    `kind` holds for what is in `covers`: new seeds, new test items, both, or nothing where it is undecided or identical
    in the seeds that there are. Several seeds decide it; the items do for a single seed. `margin`, in `unit`, is the
    difference that does not matter (None: no equivalence was asked for), `largest` the largest that there can be (None:
    any). In words the difference is a gain or a drop, as `told` says; the evidence holds first minus second.
    """

    first: str
    second: str
    kind: Kind
    covers: tuple[Doubt, ...]
    seeds: Evidence | None
    items: Evidence | None
    margin: float | None
    unit: str
    largest: float | None = None
    told: Told = "gain"

    @property
    def deciding(self) -> Evidence:
        """The evidence that decided: over several seeds, else over items, else the difference of the single seed."""
        several = self.seeds is not None and self.seeds.difference.n > 1
        found = self.seeds if several else self.items or self.seeds
        assert found is not None
        return found

    @property
    def of_these_models(self) -> Kind | None:
        """What new test items would show of the models as trained, where nothing is shown for new seeds; None where
        they leave it undecided too, or the seeds identical."""
        if self.kind == "identical" or "seeds" in self.covers or self.items is None or self.items.kind == "undecided":
            return None
        return self.items.kind

    @property
    def text(self) -> str:
        """A sentence or a few, with n, interval and corrected p."""
        return sentence(self)


def judge(
    comparisons: Sequence[Comparison], margin: float | None = None, unit: str = "", largest: float | None = None
) -> list[Verdict]:
    """A verdict on each, corrected for asking one question of so many arms: one false among all is as rare as 1 in 20.

    Differences and equivalences are corrected as families of their own, since of one arm only one can be claimed
    falsely; and so are those over seeds and over items, which are other questions. A difference smaller than the margin
    counts as equivalent even where it is surely not zero; none is told to be more than `largest`. Raises `ValueError`
    where a comparison has no evidence.
    """
    if margin is not None:
        check_margin(margin)
    for one in comparisons:
        if one.seeds is None and one.items is None:
            raise ValueError(f"`comparisons` must have evidence, but {one.first!r} against {one.second!r} has none.")
    seeds, items = _corrected([c.seeds for c in comparisons]), _corrected([c.items for c in comparisons])
    return [
        replace(_verdict(one, over_seeds, over_items), margin=margin, unit=unit, largest=largest)
        for one, over_seeds, over_items in zip(comparisons, seeds, items, strict=True)
    ]


def _verdict(one: Comparison, seeds: Evidence | None, items: Evidence | None) -> Verdict:
    several = seeds is not None and seeds.difference.n > 1
    found = [evidence for evidence in (seeds if several else None, items) if evidence is not None]
    kind = found[0].kind if found else "undecided"
    shown = kind in ("better", "worse", "equivalent")
    covers: list[Doubt] = [evidence.over for evidence in found if shown and evidence.kind == kind]
    return Verdict(one.first, one.second, kind, tuple(covers), seeds, items, None, "", told=one.told)


def _corrected(evidence: Sequence[Evidence | None]) -> list[Evidence | None]:
    """The evidence with Holm's p-values; what was not tested is no arm of the family."""
    families = {name: _holm_of([one and getattr(one, name) for one in evidence]) for name in P_VALUES}
    tested = sum(p is not None for p in families["p_difference"])
    return [
        one and replace(one, arms=max(1, tested), **{name: p_values[i] for name, p_values in families.items()})
        for i, one in enumerate(evidence)
    ]


def _holm_of(p_values: Sequence[float | None]) -> list[float | None]:
    corrected = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(corrected) for p in p_values]
