"""The page's section on test examples that quantization changes: what float gets right and the quantized model wrong,
and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qat.lab.report.contents import Contents
from qat.lab.report.flips import Flip, Flips, flips, outcomes
from qat.lab.report.html.curves import short
from qat.lab.report.html.markup import Html, join, select, tag
from qat.lab.report.samples import Samples, samples

ABSENT = (
    "No examples to show: no quantized trial left, with its float model, outcomes that are right or wrong (or boxes) "
    "on each test example."
)


@dataclass(frozen=True)
class Changed:
    """Flips by the name of an arm, and by the place of a trial in the study, with the examples that they are of."""

    arms: Mapping[str, Flips] = field(default_factory=dict)
    trials: Mapping[int, Flips] = field(default_factory=dict)
    samples: Samples = field(default_factory=Samples)


def changed(contents: Contents, groups: Mapping[str, str]) -> Changed:
    """Compare the outcomes of quantized trials with those of their float models; `groups` names the trials' arms."""
    pairs = outcomes(list(contents.records.values()), contents.folders)
    if not pairs:
        return Changed()
    names = dict.fromkeys(groups[trial] for trial in pairs)
    arms = {name: flips([pair for trial, pair in pairs.items() if groups[trial] == name]) for name in names}
    places = {trial: i for i, trial in enumerate(contents.trials)}
    trials = {places[trial]: flips([pair]) for trial, pair in pairs.items()}
    shown = [one for found in (*arms.values(), *trials.values()) for side in _turns(found) for one in side]
    labels = {one.example: label for one in shown if (label := _true(one)) is not None}
    wanted = dict.fromkeys(one.example for one in shown)
    return Changed(arms, trials, samples(contents, pairs, wanted, labels))


def examples(found: Changed) -> Html:
    """The places of the two lists; a sentence where there is nothing to list."""
    if not found.arms:
        return tag("p", ABSENT)
    note = [tag("p", found.samples.note, class_="faint")] if found.samples.note else []
    return join(
        tag("div", select("Arm or trial", "flips"), class_="controls"),
        tag("p", id="flips-note", role="status"),
        *note,
        tag("h3", "Float right, quantized wrong", id="lost-title"),
        tag("div", id="lost", class_="cards"),
        tag("h3", "Float wrong, quantized right", id="won-title"),
        tag("div", id="won", class_="cards"),
    )


def facts(found: Changed) -> dict[str, Any]:
    """The flips and their examples for the page's script."""
    return {
        "arms": {name: _facts(one) for name, one in found.arms.items()},
        "trials": {i: _facts(one) for i, one in found.trials.items()},
        "examples": found.samples.shown,
        "names": found.samples.names,
    }


def _facts(found: Flips) -> dict[str, Any]:
    sides = {"lost": [_line(one) for one in found.lost], "won": [_line(one) for one in found.won]}
    return {**sides, "counts": [short(one) for one in found.counts], "examples": found.examples, "seeds": found.seeds}


def _line(one: Flip) -> list[Any]:
    chances = None if one.probabilities is None else [short(chance, 3) for chance in one.probabilities]
    return [one.example, one.seeds, one.scores, one.said, chances, one.boxes]


def _turns(found: Flips) -> Sequence[Sequence[Flip]]:
    """The flips, the most telling ones of both ways first."""
    most = max(len(found.lost), len(found.won))
    return [[side[k] for side in (found.lost, found.won) if k < len(side)] for k in range(most)]


def _true(one: Flip) -> int | None:
    """The true label, where one of the two models has said it."""
    return None if one.said is None else one.said[0] if one.scores[0] else one.said[1]
