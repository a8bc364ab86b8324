"""What one test found about the difference between two arms."""

from dataclasses import dataclass, replace
from typing import Literal

from qat.stats.estimates import Estimate

type Kind = Literal["better", "worse", "equivalent", "identical", "undecided"]
"""What is shown of the first arm against the second; identical ones are so in every seed, of which there are several,
and too few to show that they are equivalent for others."""

type Doubt = Literal["seeds", "items"]
"""What a result is to hold for: other seeds of the same training, or other test items for the models as trained."""

ALPHA = 0.05


@dataclass(frozen=True)
class Evidence:
    """`difference` is first minus second over seeds or items, as `over` says.

    `p_difference` is the p-value of "there is no difference", `p_equivalence` that of "the difference is the margin or
    more", `p_not_better` and `p_not_worse` those of the same in one direction: small where the first is shown not to be
    better, or worse, by the margin. Each is corrected for `arms` comparisons, and None where there is too little to
    test, or no margin. `test` names that of the difference. `identical` are arms that are equal in every one of several
    seeds.
    """

    over: Doubt
    difference: Estimate
    p_difference: float | None
    p_equivalence: float | None
    test: str
    p_not_better: float | None = None
    p_not_worse: float | None = None
    arms: int = 1
    identical: bool = False

    def scaled(self, factor: float) -> "Evidence":
        """The same with the difference in another unit."""
        return replace(self, difference=self.difference.scaled(factor))

    @property
    def kind(self) -> Kind:
        """What it shows at the 5 % level; a difference surely smaller than the margin is no difference."""
        if self.p_equivalence is not None and self.p_equivalence <= ALPHA:
            return "equivalent"
        if self.identical:
            return "identical"
        if self.p_difference is None or self.p_difference > ALPHA:
            return "undecided"
        return "better" if self.difference.mean > 0 else "worse"
