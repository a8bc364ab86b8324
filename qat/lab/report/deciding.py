"""The seeds that would decide an undecided comparison, going by the spread of those that were run."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from qat.lab.report.summary import Row
from qat.lab.report.table import contrasts, exploratory
from qat.lab.stats import Evidence, Verdict
from qat.lab.stats.estimates import CONFIDENCE
from qat.lab.stats.power import POWER, power_of_difference, power_of_equivalence, seeds_for
from qat.lab.stats.seeds import MOST

FEWEST = 3  # seeds whose spread says something
MOST_COUNTED = 60  # comparisons, those of the most telling differences; each takes some milliseconds
HEADS = ("comparison", "seen", "sd over seeds", "seeds now", "to show what is seen", "to show equivalence")


@dataclass(frozen=True)
class Needed:
    """An undecided comparison over seeds, the standard deviation of its difference, and the seeds that would show a
    difference as large as the one seen, or equivalence of arms that do not differ, with a chance of 80 %.

    `sd` is None where too few seeds have been run to tell, a number of seeds where 1,000 are too few, or where no
    margin says what equivalence is.
    """

    verdict: Verdict
    seeds: int
    sd: float | None
    difference: int | None
    equivalence: int | None


def needed(rows: Sequence[Row]) -> list[Needed]:
    """The undecided comparisons of a report, the ones that the fewest seeds would decide first."""
    undecided = [one for one in (*contrasts(rows), *exploratory(rows)) if one.kind == "undecided"]
    known = [(one, found) for one in undecided if (found := _over_seeds(one)) is not None]
    known.sort(key=lambda item: -abs(item[1].difference.mean) / max(item[1].difference.half_width or 0.0, 1e-300))
    found = [_needed(one, evidence) for one, evidence in known[:MOST_COUNTED]]
    return sorted(found, key=lambda one: min(one.difference or MOST + 1, one.equivalence or MOST + 1))


def line(one: Needed) -> tuple[str, ...]:
    """The comparison as cells under `HEADS`."""
    verdict, difference = one.verdict, _seen(one.verdict)
    cells = (difference, "not known" if one.sd is None else f"{one.sd:.2g}", str(one.seeds))
    if one.sd is None:
        return (f"{verdict.first} against {verdict.second}", *cells, "", "")
    within = "no margin" if verdict.margin is None else _count(one.equivalence)
    return (f"{verdict.first} against {verdict.second}", *cells, _count(one.difference), within)


def remark(found: Sequence[Needed]) -> str:
    """Explain the numbers, and what is cheapest."""
    told = [one for one in found if one.sd is not None]
    if not told:
        return f"From {FEWEST} seeds an arm on, their spread tells how many would decide. Run more of them."
    chance = f"the seeds that make the chance {POWER:.0%}, in the worst case of Holm's correction"
    return (
        f"Power of the paired t tests, going by the spread of the seeds that there are: {chance}. The spread of few "
        "seeds is itself uncertain, within a factor of two at best. Equivalence is counted for arms that do not differ."
    )


def _over_seeds(verdict: Verdict) -> Evidence | None:
    evidence = verdict.seeds
    return evidence if evidence is not None and not evidence.identical else None


def _needed(verdict: Verdict, evidence: Evidence) -> Needed:
    n, half_width = evidence.difference.n, evidence.difference.half_width
    if n < FEWEST or not half_width:
        return Needed(verdict, n, None, None, None)
    sd = half_width * float(np.sqrt(n) / stats.t.isf((1 - CONFIDENCE) / 2, n - 1))
    count, mean, margin = max(1, evidence.comparisons), evidence.difference.mean, verdict.margin
    shows = seeds_for(lambda seeds: power_of_difference(seeds, mean, sd, count)) if mean else None
    equal = None if margin is None else seeds_for(lambda seeds: power_of_equivalence(seeds, margin, sd, count))
    return Needed(verdict, n, sd, shows, equal)


def _seen(verdict: Verdict) -> str:
    evidence = verdict.deciding
    decimals, mean = verdict.terms.decimals, evidence.difference.mean
    number = f"{mean + 0.0:+.3g}" if decimals is None else f"{round(mean, decimals) + 0.0:+.{decimals}f}"
    return f"{number} {verdict.unit}".rstrip()


def _count(seeds: int | None) -> str:
    return f"> {MOST:,}" if seeds is None else f"{seeds:,}"
