"""What the number of a study's seeds can show, said before it runs."""

from collections import Counter

from qat.config import QUANTIZED, lineage
from qat.stats import FEW, detectable
from qat.sweep.study import Study


def power(study: Study) -> str:
    """The differences that its seeds can show, in a sentence or two; empty where no quantized arm is compared."""
    groups: dict[str, set[int]] = {}
    arms = {}
    for trial in study.trials:
        group = lineage(trial.config).group
        groups.setdefault(group, set()).add(trial.config.seed)
        arms[group] = trial.config.arm
    asked = Counter(arm for arm in arms.values() if arm in QUANTIZED)
    if not asked or len(groups) < 2:
        return ""
    seeds = min(len(found) for group, found in groups.items() if arms[group] in QUANTIZED)
    if seeds == 1:
        return f"One seed an arm cannot decide what other seeds would show. Take {FEW} or more."
    most = max(asked.values())
    among = f", {most} arms being asked about at once" if most > 1 else ""
    shown = (
        f"{seeds} seeds an arm show a difference from {detectable(seeds, most):.2g} times its standard deviation "
        f"over seeds on{among}"
    )
    return f"{shown}, and have no interval worth showing. Take {FEW} or more." if seeds < FEW else f"{shown}."


def too_few(study: Study) -> str:
    """The same where they are fewer than an interval needs; else empty."""
    said = power(study)
    return said if said.endswith("or more.") else ""
