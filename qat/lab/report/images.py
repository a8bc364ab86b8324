"""Detectors compared on images drawn anew: evidence over test images for a metric that is no mean over them."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from qat.lab.report.pairing import Pair
from qat.lab.runs.examples import Examples, load_examples, reader
from qat.lab.runs.files import EXAMPLES_FILE, fault, sealed_by
from qat.lab.runs.record import RECORD_FILE, Record
from qat.lab.stats import Evidence, compare_draws
from qat.tasks.detection.resample import CRITERIA, FIELDS, resampled_ap
from qat.tasks.metric import Metric

DRAWS = 500
SAME = 1e-5  # to which the metric of the images as they are must agree with what was recorded
REMEMBERED = 1024

type Drawn = Callable[[Record, str | None], Float[np.ndarray, " draws"] | None]
"""A detector's metric on each draw of its test images; None where it has none. All detectors with as many images see
the same draws."""


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of trials on single test examples, by their records: metrics that are means over them, and those on
    images drawn anew."""

    examples: Examples
    drawn: Drawn


def outcomes_in(folders: Mapping[str, Path]) -> Outcomes:
    """The outcomes that trials left in their folders, by id."""
    return Outcomes(reader(folders), drawer(folders))


def drawer(folders: Mapping[str, Path]) -> Drawn:
    """A function from a record, by its trial's folder, to its main metric, or another by name, on images drawn anew.

    None for metrics that are no average precision, for trials whose detections are missing or damaged, and where they
    do not make the recorded number.
    """

    @functools.lru_cache(REMEMBERED)
    def drawn(trial: str, name: str, recorded: float) -> np.ndarray | None:
        folder = folders.get(trial)
        if folder is None or fault(folder / EXAMPLES_FILE, sealed_by(folder / RECORD_FILE)):
            return None
        try:
            arrays = load_examples(folder, FIELDS)
            found = resampled_ap(arrays, name, _counts(len(arrays["labels"])))
        except (OSError, ValueError, IndexError):
            return None
        usable = np.isfinite(found).all() and abs(found[0] - recorded) <= SAME
        return found[1:] if usable else None

    def of(record: Record, name: str | None) -> np.ndarray | None:
        name = name or record.metric.name
        return drawn(record.trial, name, record.metrics.get(name, np.nan)) if name in CRITERIA else None

    return of


@functools.lru_cache(8)
def _counts(images: int) -> np.ndarray:
    """How often each image occurs: once each, and then in every draw."""
    draws = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), DRAWS)
    return np.concatenate([np.ones((1, images), draws.dtype), draws])


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
