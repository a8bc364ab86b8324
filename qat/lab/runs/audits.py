"""The audit of a trial's calibration: `audit.json`, with the score of each draw, and what it says in words."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from qat.fileio import write_atomically
from qat.lab.runs.files import AUDIT_FILE
from qat.lab.stats import estimate
from qat.ptq.audit import Audit, Draw, Scores, audit_of
from qat.tasks.metric import Metric

SHARE = 0.01  # of the largest number's score: the margin of a metric that has none


@dataclass(frozen=True)
class Found:
    """An audit as it is on disk: its `identity` (code, data, settings), the task's metric, the number of validation
    examples, the float model's score on them, the draws that were planned, and the scores so far by key."""

    identity: str
    metric: Metric
    examples: int
    float_value: float
    draws: tuple[Draw, ...]
    values: Mapping[str, float]

    @property
    def is_whole(self) -> bool:
        """Whether every draw has its score."""
        return all(draw.key in self.values for draw in self.draws)

    @property
    def audit(self) -> Audit:
        """The audit of all draws."""
        return audit_of(self.draws, self.values)


def write_audit(folder: Path, found: Found) -> None:
    """Write an audit into a trial's folder, whole or on its way."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / AUDIT_FILE, json.dumps(asdict(found), indent=1) + "\n")


def read_audit(folder: Path) -> Found | None:
    """The audit in a trial's folder, None where there is none. Raises `ValueError` for a damaged one."""
    try:
        content = json.loads((folder / AUDIT_FILE).read_text(encoding="utf-8"))
        metric = {**content["metric"], "range": tuple(content["metric"]["range"])}
        draws = tuple(Draw(**draw) for draw in content["draws"])
        values = {str(key): float(value) for key, value in content["values"].items()}
        examples, float_value = int(content["examples"]), float(content["float_value"])
        return Found(str(content["identity"]), Metric(**metric), examples, float_value, draws, values)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{str(folder / AUDIT_FILE)!r} is damaged ({error}). Remove it, and run `qat audit` again."
        ) from error


def sentence(found: Found) -> str:
    """Say how many samples the calibration of a model needs, and by which criterion."""
    audit, metric = found.audit, found.metric
    last, count = audit.points[-1], len(audit.points[-1].values)
    margin = metric.margin / metric.factor if metric.margin is not None else SHARE * abs(last.mean)
    needed = audit.needed(margin, metric.sign)
    allowed = f"{metric.shown(margin):.3g} {metric.difference_unit}".strip()
    at = f"the mean of {last.samples:,} ({_shown(metric, last.mean)})"
    of = f"on {found.examples:,} validation examples"
    if needed is None:
        lost = abs(last.mean - last.worst(metric.sign))
        reached = f"{metric.shown(lost):.3g} {metric.difference_unit}".strip()
        return (
            f"For {allowed} no number of samples up to {last.samples:,} is shown to be enough {of}: even there the "
            f"worst of {count} draws is {reached} worse than the mean. From {audit.needed(lost, metric.sign):,} on "
            "draws are no worse than that."
        )
    are = "1 sample is" if needed == 1 else f"{needed:,} samples are"
    return f"{are} enough: from there on the worst of {count} draws is at most {allowed} worse than {at}, {of}."


HEADS = ("calibrated on", "samples", "mean", "95 % interval", "worst draw", "drop from float")


def lines(found: Found) -> Iterable[tuple[str, ...]]:
    """The rows of a table under `HEADS`, as shown."""
    audit = found.audit
    for point in audit.points:
        yield _line(found, "training data", point)
    yield _line(found, "two disjoint subsets", audit.halves)
    for name, scores in audit.others.items():
        yield _line(found, name, scores)


def _line(found: Found, name: str, scores: Scores) -> tuple[str, ...]:
    metric, about = found.metric, estimate(scores.values)
    scaled = about.scaled(metric.factor)
    ends = metric.interval(scaled.low, scaled.high)
    interval = "" if ends is None or len(scores.values) < 3 else " to ".join(metric.text(end) for end in ends)
    drop = metric.shown(metric.sign * (found.float_value - scores.mean))
    worst = metric.text(metric.shown(scores.worst(metric.sign)))
    return name, f"{scores.samples:,}", metric.text(metric.shown(scores.mean)), interval, worst, metric.text(drop, True)


def _shown(metric: Metric, value: float) -> str:
    return f"{metric.text(metric.shown(value))} {metric.unit}".strip()
