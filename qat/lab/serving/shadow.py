"""A float model beside an int8 one: on how much they disagree, and whether that is shown to be too much."""

import math
from collections import deque
from dataclasses import KW_ONLY, dataclass

WINDOW = 1000
CONFIDENCE = 0.999
HALVINGS = 50  # of an interval in [0, 1]: to the last bit of a double


@dataclass(frozen=True)
class ShadowRule:
    """The float model runs on a `share` of the inputs. It takes over once the disagreement over the last `window` of
    them is above `most` by a lower bound of this `confidence`.

    The bound is looked at after every comparison, so its confidence is far higher than that of a single test: at the
    usual 95 % a server that runs for long would fall back by chance.
    """

    _: KW_ONLY
    share: float = 0.05
    most: float = 0.02
    window: int = WINDOW
    confidence: float = CONFIDENCE

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"`shadow` must be in [0, 1], got {self.share}. It is a share of the inputs.")
        if not 0 <= self.most <= 1:
            raise ValueError(
                f"`max_disagreement` must be in [0, 1], got {self.most}. It is the share of inputs, or for detectors "
                "of boxes, on which int8 and float may disagree."
            )
        if self.window < 1 or not 0 < self.confidence < 1:
            raise ValueError(
                f"`window` must be at least 1 and `confidence` in (0, 1), got {self.window} and {self.confidence}."
            )


@dataclass(frozen=True)
class Disagreement:
    """The mean of the last `count` comparisons, and a lower bound on what it is for all inputs; 0 of none."""

    mean: float
    lower: float
    count: int


class Window:
    """The last comparisons of two models, each in [0, 1]."""

    def __init__(self, rule: ShadowRule):
        self._rule = rule
        self._values: deque[float] = deque(maxlen=rule.window)

    def add(self, value: float) -> None:
        """Take in a comparison; the oldest one leaves a full window."""
        self._values.append(value)

    @property
    def disagreement(self) -> Disagreement:
        """The disagreement over the window."""
        count = len(self._values)
        mean = math.fsum(self._values) / count if count else 0.0
        return Disagreement(mean, lower_bound(mean, count, self._rule.confidence), count)


def lower_bound(mean: float, count: int, confidence: float) -> float:
    """The least expected value of numbers in [0, 1] that the mean of `count` independent ones does not refute.

    By Chernoff's bound in its exact form, which holds for any distribution on [0, 1] (Hoeffding 1963, doi
    10.1080/01621459.1963.10500830, theorem 1): with p the expected value, a mean of m or more has a probability of at
    most exp(-n KL(m, p)).
    """
    if mean <= 0 or count == 0:
        return 0.0
    least, low, high = -math.log(1 - confidence) / count, 0.0, mean
    # Invariant: the divergence, which falls from infinity at 0 to 0 at `mean`, exceeds `least` at `low` alone.
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if middle == 0 or _divergence(mean, middle) > least:
            low = middle
        else:
            high = middle
    return low


def _divergence(m: float, p: float) -> float:
    """Kullback-Leibler divergence of coins that show heads with probability m and p, in nats."""
    return m * math.log(m / p) + ((1 - m) * math.log((1 - m) / (1 - p)) if m < 1 else 0.0)
