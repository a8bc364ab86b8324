"""Contrasts that a study declares before its run, and the arms that they name."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from qat.registry import did_you_mean

type Arms = Mapping[str, Mapping[str, str]]
"""Labels by axis of arms by a key, such as the digest of their settings; that of the seed is passed over."""


@dataclass(frozen=True)
class Contrast:
    """Two arms of a study that are to be compared, by their labels: `Contrast("qat w4a4", "ptq w4a4")`.

    An arm is named by its labels with commas between, as far as they tell it from others. `metric` is the number that
    is compared (None: the main one). The rest is in the unit of its differences, points for percentages: `margin` is
    the difference that does not matter (None: the metric's own), `difference` a true one that the study should be able
    to show (None: the margin), and `sd` the expected standard deviation of the paired difference over seeds (None: that
    of finished trials, else the margin). Raises `ValueError` for names that are empty or the same and for numbers that
    are not positive.
    """

    first: str
    second: str
    metric: str | None = None
    margin: float | None = None
    difference: float | None = None
    sd: float | None = None

    def __post_init__(self) -> None:
        for name in ("first", "second"):
            if not (isinstance(getattr(self, name), str) and getattr(self, name).strip()):
                raise ValueError(f"`{name}` of a contrast must be an arm's labels, got {getattr(self, name)!r}.")
        if self.first == self.second:
            raise ValueError(f"a contrast must name two arms, got {self.first!r} twice.")
        if not (self.metric is None or isinstance(self.metric, str)):
            raise ValueError(f"`metric` of {self} must be the name of a metric, got {self.metric!r}.")
        for name in ("margin", "difference", "sd"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and math.isfinite(value) and value > 0):
                raise ValueError(f"`{name}` of {self} must be positive, got {value!r}.")

    def __str__(self) -> str:
        metric = "" if self.metric is None else f" in {self.metric}"
        return f"{self.first} against {self.second}{metric}"


def parse_contrasts(given: Any) -> tuple[Contrast, ...]:
    """Contrasts as a study's file writes them: a list or tuple of `Contrast`s, or of pairs of arms.

    Raises `ValueError` with a line for each that is none, or stands there twice.
    """
    if not isinstance(given, list | tuple):
        raise ValueError(f"`CONTRASTS`: must be a list such as [('qat w4a4', 'ptq w4a4')], got {given!r}.")
    found, mistakes = [], []
    for one in given:
        try:
            found.append(one if isinstance(one, Contrast) else _of_pair(one))
        except ValueError as error:
            mistakes.append(f"`CONTRASTS`: {error}")
    asked = [(frozenset((one.first, one.second)), one.metric) for one in found]
    twice = dict.fromkeys(one for one, key in zip(found, asked, strict=True) if asked.count(key) > 1)
    mistakes += [f"`CONTRASTS`: {one} is asked more than once." for one in twice]
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return tuple(found)


def _of_pair(given: Any) -> Contrast:
    if isinstance(given, list | tuple) and len(given) == 2 and all(isinstance(one, str) for one in given):
        return Contrast(*given)
    raise ValueError(f"must hold pairs such as ('qat w4a4', 'ptq w4a4') or `Contrast`s, got {given!r}.")


def named(name: str, arms: Arms) -> list[str]:
    """The keys of the arms that a name means: those with these labels and no others, else those that have them all."""
    labels = {key: [label for axis, label in found.items() if axis != "seed"] for key, found in arms.items()}
    wanted = [part.strip() for part in name.split(",")]
    exact = [key for key, known in labels.items() if ", ".join(known) == name]
    return exact or [key for key, known in labels.items() if all(part in known for part in wanted)]


def find_arm(name: str, arms: Arms) -> str:
    """The key of the arm that a name means. Raises `ValueError` where it means none, or one of several."""
    found, joined = named(name, arms), {key: _joined(one) for key, one in arms.items()}
    if len(found) == 1:
        return found[0]
    if found:
        some = "; ".join(joined[key] for key in found[:3])
        raise ValueError(f"{name!r} means {len(found)} arms ({some}). Name more of the labels, with commas between.")
    known = list(dict.fromkeys(joined.values()))
    raise ValueError(f"no arm has the labels {name!r}.{did_you_mean(name, known) or f' Known: {"; ".join(known)}.'}")


def _joined(labels: Mapping[str, str]) -> str:
    return ", ".join(label for axis, label in labels.items() if axis != "seed")


def contrast_problems(contrasts: Iterable[Contrast], arms: Arms) -> list[str]:
    """A line for each mistake in contrasts between these arms."""
    lines = []
    for one in contrasts:
        keys = []
        for name in (one.first, one.second):
            try:
                keys.append(find_arm(name, arms))
            except ValueError as error:
                lines.append(f"`CONTRASTS`: {error}")
        if len(keys) == 2 and keys[0] == keys[1]:
            lines.append(f"`CONTRASTS`: {one} names one and the same arm twice.")
    return list(dict.fromkeys(lines))


def to_json(contrast: Contrast) -> dict[str, Any]:
    """A contrast as a JSON object, without what is not given."""
    return {name: value for name, value in asdict(contrast).items() if value is not None}


def from_json(found: Any) -> Contrast:
    """The contrast that `to_json` wrote; entries beside it are passed over. Raises `ValueError` for anything else."""
    if not isinstance(found, Mapping):
        raise ValueError(f"a contrast must be an object, got {found!r}.")
    known = {one.name for one in fields(Contrast)}
    return Contrast(**{"first": "", "second": "", **{name: found[name] for name in found if name in known}})
