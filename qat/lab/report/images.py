"""Detectors compared on images drawn anew: evidence over test images for a metric that is no mean over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qat.lab.report.pairing import Pair
from qat.lab.runs.examples import Drawn, Examples, drawer, reader
from qat.lab.stats import Evidence, compare_draws
from qat.tasks.metric import Metric


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of trials on single test examples, by their records: metrics that are means over them, and those on
    images drawn anew."""

    examples: Examples
    drawn: Drawn


def outcomes_in(folders: Mapping[str, Path]) -> Outcomes:
    """The outcomes that trials left in their folders, by id."""
    return Outcomes(reader(folders), drawer(folders))


def over_images(
    pairs: Sequence[Pair], metric: Metric, name: str | None, *, margin: float | None, drawn: Drawn
) -> Evidence | None:
    """The evidence on what trials gain over their baselines for other test images, in the metric's own unit; the
    differences of the pairs are averaged. None unless all trials have draws of equally many images."""
    sides = [[drawn(record, name) for record in side] for side in zip(*pairs, strict=True)]
    rows = [row for side in sides for row in side if row is not None]
    images = {record.examples for pair in pairs for record in pair}
    if len(rows) < 2 * len(pairs) or len(images) != 1:
        return None
    half = len(pairs)
    differences = metric.sign * (np.mean(rows[:half], 0) - np.mean(rows[half:], 0))
    values = [[record.metrics[name or metric.name] for record in side] for side in zip(*pairs, strict=True)]
    mean = metric.sign * float(np.mean(values[0]) - np.mean(values[1]))
    return compare_draws(mean, differences, images.pop(), margin)
