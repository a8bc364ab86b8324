"""Statistics for a handful of seeds and a finite test set: estimates, tests, and verdicts in plain words.

A difference between two arms is in doubt twice: other seeds would train other models (`compare_seeds`), and other test
items would be answered otherwise (`compare_items`). `judge` says of many comparisons at once what is shown.
"""

from qat.lab.stats.estimates import FEW, Doubt, Estimate, Evidence, Kind, estimate, paired_difference
from qat.lab.stats.items import McNemar, compare_draws, compare_items, mcnemar, paired_bootstrap
from qat.lab.stats.judge import combined, holm, judge
from qat.lab.stats.seeds import Equivalence, compare_seeds, detectable, equivalence, seeds_needed
from qat.lab.stats.verdict import Change, Comparison, Terms, Verdict

__all__ = [
    "FEW",
    "Change",
    "Comparison",
    "Doubt",
    "Equivalence",
    "Estimate",
    "Evidence",
    "Kind",
    "McNemar",
    "Terms",
    "Verdict",
    "combined",
    "compare_draws",
    "compare_items",
    "compare_seeds",
    "detectable",
    "equivalence",
    "estimate",
    "holm",
    "judge",
    "mcnemar",
    "paired_bootstrap",
    "paired_difference",
    "seeds_needed",
]
