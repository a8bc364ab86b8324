"""Several studies of one task as one: their trials together, and each arm compared with itself the time before."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from qat.lab.report.axes import SEED
from qat.lab.report.contents import Contents, Declared
from qat.lab.report.summary import Row
from qat.lab.runs.cache import config_in
from qat.lab.runs.record import Lineage, Record
from qat.lab.runs.study_folder import TRIALS, About
from qat.lab.stats.contrasts import Contrast
from qat.registry import parse_call

STUDY = "study"  # the axis that tells the studies apart


def combine(studies: Sequence[Contents]) -> Contents:
    """The trials of these studies, oldest first, on an axis more, with the comparison of every arm of a study with the
    same arm of the one before as its contrasts.

    Comparisons within a study stay within it. Raises `ValueError` where they are not of one task and the same data, or
    one has no finished trial: their numbers would not compare.
    """
    check(studies)
    names = _names(studies)
    parts = [_named(one, name) for one, name in zip(studies, names, strict=True)]
    contrasts = [one for before, after in itertools.pairwise(parts) for one in _changes(before, after)]
    return replace(
        parts[-1],
        name=", ".join(names),
        trials=_joined(one.trials for one in parts),
        records=_joined(one.records for one in parts),
        damaged=_joined(one.damaged for one in parts),
        given_up=_joined(one.given_up for one in parts),
        manifests=_joined(one.manifests for one in parts),
        spoilt=_joined(one.spoilt for one in parts),
        places=_joined(one.places for one in parts),
        contrasts=tuple(contrasts),
        about=About(question=f"What has changed from {' to '.join(names)}, arm by arm?"),
        compares=tuple(names),
    )


def as_changes(rows: Sequence[Row]) -> list[Row]:
    """The rows with their contrasts told as what they are: comparisons, corrected among themselves, that nobody
    declared."""
    return [replace(row, contrasts=tuple(replace(one, declared=False) for one in row.contrasts)) for row in rows]


def check(studies: Sequence[Contents]) -> None:
    """Raise `ValueError` with the reason where numbers of these studies do not compare."""
    first = studies[0]
    for one in studies:
        if not one.records:
            raise ValueError(f"`runs`: {str(one.root)!r} has no finished trial yet. Leave it out, or wait for one.")
    for other in studies[1:]:
        reason = _difference(first, other)
        if reason:
            raise ValueError(
                f"`runs` must be studies of one task and data to stand on one page, but {reason}. Report them apart."
            )
    roots = [one.root.resolve() for one in studies]
    if len(set(roots)) < len(roots):
        raise ValueError(f"`runs` names one folder twice, got {', '.join(map(str, roots))}. Name each once.")


def _difference(first: Contents, other: Contents) -> str:
    """The reason why numbers of two studies do not compare; empty where they do."""
    asked = "{} {!r} asks for {}, {} {!r} for {}"
    for what in (_data, _metrics, _fingerprints):
        mine, theirs = what(first), what(other)
        if mine != theirs:
            told = [", ".join(sorted(map(str, found))) or "none" for found in (mine, theirs)]
            return asked.format(first.root, first.name, told[0], other.root, other.name, told[1])
    return ""


def _metrics(one: Contents) -> set[str]:
    return {f"{record.metric.heading} ({record.examples} test examples)" for record in one.records.values()}


def _data(one: Contents) -> set[str]:
    return {parse_call(str(config["data"]))[0] for trial in one.records if "data" in (config := _config(one, trial))}


def _fingerprints(one: Contents) -> set[str]:
    found = {facts.get("data_fingerprint") for facts in one.manifests.values()}
    return {f"data of the fingerprint {digest}" for digest in found if digest}


def _config(one: Contents, trial: str) -> Mapping[str, Any]:
    return config_in(one.folder(trial))


def _names(studies: Sequence[Contents]) -> list[str]:
    """The studies' names, those of their folders where they share one, numbered where they share that too."""
    names = [one.name for one in studies]
    if len(set(names)) < len(names):
        names = [one.root.name for one in studies]
    twice = len(set(names)) < len(names)
    return [f"{name} ({i + 1})" if twice else name for i, name in enumerate(names)]


def _named(one: Contents, name: str) -> Contents:
    """The contents with ids and digests of their own, and the study's name as a label of each trial."""

    def own(text: str) -> str:
        return f"{name}: {text}"

    def moved(job: str) -> str:
        kind, _, trial = job.partition("/")
        return f"{kind}/{own(trial)}"

    return replace(
        one,
        trials={own(trial): {STUDY: name, **labels} for trial, labels in one.trials.items()},
        records={own(trial): _own_record(record, name) for trial, record in one.records.items()},
        damaged={own(trial): why for trial, why in one.damaged.items()},
        given_up={moved(job): replace(found, job=moved(job)) for job, found in one.given_up.items()},
        manifests={own(trial): facts for trial, facts in one.manifests.items()},
        spoilt={own(trial): lines for trial, lines in one.spoilt.items()},
        places={own(trial): one.root / TRIALS / trial for trial in one.trials},
    )


def _own_record(record: Record, name: str) -> Record:
    lineage = record.lineage
    control = None if lineage.control is None else f"{name}: {lineage.control}"
    return record.model_copy(
        update={
            "trial": f"{name}: {record.trial}",
            "labels": {STUDY: name, **record.labels},
            "lineage": Lineage(
                float_stage=f"{name}: {lineage.float_stage}", control=control, group=f"{name}: {lineage.group}"
            ),
            "stages": {kind: f"{name}: {digest}" for kind, digest in record.stages.items()},
        }
    )


def _changes(before: Contents, after: Contents) -> Iterator[Declared]:
    """Yield the comparison of each arm with the arm of the same labels in the study before."""
    old, new = _arms(before), _arms(after)
    for labels, trials in new.items():
        if labels in old:
            said = ", ".join(label for _, label in labels) or "the arm"
            first, second = (f"{said} ({next(iter(one.trials.values()))[STUDY]})" for one in (after, before))
            yield Declared(Contrast(first, second), frozenset(trials), frozenset(old[labels]))


def _arms(one: Contents) -> dict[tuple[tuple[str, str], ...], list[str]]:
    """Trials by their labels but for those of the study and the seed."""
    found: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for trial, labels in one.trials.items():
        key = tuple((axis, label) for axis, label in labels.items() if axis not in (STUDY, SEED))
        found.setdefault(key, []).append(trial)
    return found


def _joined(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The entries of all mappings, whose keys differ."""
    return {key: value for part in parts for key, value in part.items()}
