"""Where the trials of a study ran: what they share, and what differs and may explain a difference of their numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SEED = "seed"  # differs on purpose, and the table of trials tells it
TELLING = {
    "cpu.usable": "numbers of usable cores",
    "cpu.threads": "numbers of threads",
    "versions": "versions of packages",
    "device": "devices",
    "cpu": "processors",
    "platform": "systems",
    "revision": "versions of the code",
    "code": "versions of the code",
    "flags": "flags",
    "matmul_precision": "precisions of products",
}


@dataclass(frozen=True)
class Difference:
    """A fact that is not the same for all trials: the trials, by its value; None where a trial does not have it."""

    name: str
    trials: dict[str | None, tuple[str, ...]]


@dataclass(frozen=True)
class Provenance:
    """Facts that hold for all trials, by name, and those that differ; `warnings` say which of these matter."""

    common: dict[str, str]
    different: tuple[Difference, ...]
    warnings: tuple[str, ...]


def provenance(manifests: Mapping[str, Mapping[str, Any]]) -> Provenance:
    """What the manifests of the trials, by id, say; but for their seeds."""
    flat = {trial: dict(_facts(manifest)) for trial, manifest in manifests.items()}
    common, different = {}, []
    for name in dict.fromkeys(name for facts in flat.values() for name in facts if name != SEED):
        trials: dict[str | None, list[str]] = {}
        for trial, facts in flat.items():
            trials.setdefault(facts.get(name), []).append(trial)
        if len(trials) > 1:
            different.append(Difference(name, {value: tuple(ids) for value, ids in trials.items()}))
        else:
            common[name] = next(iter(trials)) or ""
    told = (TELLING.get(one.name) or TELLING.get(one.name.split(".")[0]) for one in different)
    parts = dict.fromkeys(part for part in told if part)
    warnings = [f"Trials ran under different {part}: compare their numbers with care." for part in parts]
    return Provenance(common, tuple(different), tuple(warnings))


def _facts(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Dotted names and values as text; an empty object is none."""
    if isinstance(value, Mapping):
        return [fact for key, part in value.items() for fact in _facts(part, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list):
        return [(name, ", ".join(map(str, value)) or "none")]
    return [(name, "unknown" if value is None else str(value))]
