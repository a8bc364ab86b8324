"""A study: a base config and labelled axes, multiplied out into trials."""

import inspect
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from qat.fileio import describe_error, place
from qat.lab.experiment.config import ExperimentConfig, digest, lineage, override, parse
from qat.lab.experiment.plugins import run_file, unreadable
from qat.lab.experiment.recipe import short_name
from qat.lab.runs.study_folder import About
from qat.lab.stats.contrasts import Contrast, contrast_problems, parse_contrasts
from qat.recipes.recipe import QuantRecipe

DATA = ".json"  # of a config file that a command wrote

type Axis = Sequence[Any] | Mapping[str, Mapping[str, Any]]
type Wanted = Callable[[dict[str, str]], bool]


@dataclass(frozen=True)
class Trial:
    """One config of a study and the label that it has on each axis."""

    labels: dict[str, str]
    config: ExperimentConfig

    @property
    def id(self) -> str:
        """Name of the trial's folder; another config is another id."""
        names = "-".join(re.sub(r"[^\w.]+", "-", label) for label in (self.config.name, *self.labels.values()))
        return f"{names[:80]}-{digest(self.config)[:8]}"


@dataclass(frozen=True)
class Study:
    """Trials under one name; `imports` are files that register what the trials name, `contrasts` the comparisons that
    were written down before the run, `about` the question, hypothesis and notes of its file."""

    name: str
    trials: tuple[Trial, ...]
    imports: tuple[str, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    about: About = field(default_factory=About)

    def __post_init__(self):
        if not self.trials:
            raise ValueError(
                "`axes` must leave at least one trial, but one of them is empty, or `wanted` leaves all out."
            )
        seen: dict[str, Trial] = {}
        for trial in self.trials:
            twin = seen.setdefault(digest(trial.config), trial)
            if twin is not trial:
                raise ValueError(
                    f"`axes` must make trials that differ, but {trial.labels} and {twin.labels} are the same config. "
                    "Leave one of them out."
                )
        if self.contrasts and (lines := contrast_problems(self.contrasts, self.arms)):
            raise ValueError("\n".join(lines))

    @property
    def arms(self) -> dict[str, dict[str, str]]:
        """Labels by axis of the arms, trials that differ in their seed only, by the digest of their settings."""
        return {lineage(trial.config).group: trial.labels for trial in reversed(self.trials)}


def make_study(
    name: str,
    base: ExperimentConfig,
    axes: Mapping[str, Axis],
    more: Mapping[str, Mapping[str, Any]] | None = None,
    wanted: Wanted | None = None,
) -> Study:
    """Every combination of the axes' values, the last axis fastest, and then `more` trials: changes by label.

    An axis is `path: [values]`, or `name: {label: {path: value, ...}}` where a step changes several fields. Of the
    combinations those stay whose labels, by axis, are `wanted` (None: all). Raises `ValueError` with every mistake of
    every trial.
    """
    steps = [[(axis, *step) for step in _steps(axis, values)] for axis, values in axes.items()]
    chosen_steps = [*itertools.product(*steps)] if axes or not more else []
    if wanted is not None:
        chosen_steps = [chosen for chosen in chosen_steps if _is_wanted(wanted, _labels(chosen))]
    chosen_steps += [(("trial", label, changes),) for label, changes in _labelled("TRIALS", more or {})]
    trials, mistakes = [], {}
    for chosen in chosen_steps:
        labels = _labels(chosen)
        try:
            trials.append(Trial(labels, override(base, {k: v for _, _, changes in chosen for k, v in changes.items()})))
        except ValueError as error:
            mistakes.update({line: labels for line in reversed(str(error).splitlines()) if line not in mistakes})
    if mistakes:
        raise ValueError("\n".join(f"{line} (trial {labels})" for line, labels in mistakes.items()))
    return Study(name, tuple(trials))


def arms(
    name: str, arm: Literal["ptq", "qat"], recipes: Sequence[str], options: str, **more: Any
) -> dict[str, dict[str, Any]]:
    """Steps of an axis: a quantized arm at each of some presets, all with the same options and other changes."""
    return {f"{name} {preset}": {"arm": arm, "recipe": f"{preset}({options})", **more} for preset in recipes}


def load_study(path: Path, changes: Mapping[str, Any], *, fast: bool = False) -> Study:
    """The study in a Python file that defines `BASE`, and `AXES` or `TRIALS` (changes of the base by label) or both,
    with `changes` made to the base first. Its `wanted(labels)`, if there is one, says which combinations are run, its
    `CONTRASTS` which arms are compared above all: pairs of their labels, or `Contrast`s. Its `QUESTION`, `HYPOTHESIS`
    and `NOTES` are texts for the report.

    A `fast` one is another study, `<name>-fast`: the file's `FAST`, changes of the base, come before all others, and
    axes in its `FAST_AXES` stand for those of `AXES`.
    """
    found = run_file(path)
    axes, more = found.get("AXES", {}), found.get("TRIALS", {})
    if fast:
        if not isinstance(found.get("FAST"), Mapping):
            raise ValueError(f"{str(path)!r} must define `FAST`, a dict of changes of the base, to be run with --fast.")
        fewer = found.get("FAST_AXES", {})
        if not (isinstance(axes, Mapping) and isinstance(fewer, Mapping)):
            raise ValueError(f"`AXES` and `FAST_AXES` of {str(path)!r} must be dicts, got {axes!r} and {fewer!r}.")
        changes, axes = {**found["FAST"], **changes}, {**axes, **fewer}
    given = "AXES" in found or "TRIALS" in found
    if not (
        isinstance(found.get("BASE"), ExperimentConfig)
        and given
        and isinstance(axes, Mapping)
        and isinstance(more, Mapping)
    ):
        raise ValueError(
            f"{str(path)!r} must define `BASE`, an ExperimentConfig, and `AXES` or `TRIALS`, dicts; "
            "see experiments/quickstart.py."
        )
    name = f"{path.stem}-fast" if fast else path.stem
    study = make_study(name, override(found["BASE"], changes), axes, more, found.get("wanted"))
    declared = with_contrasts(study, found, fast=fast)
    return replace(declared, imports=(str(path.absolute()),), about=about_of(found))


def about_of(found: Mapping[str, Any]) -> About:
    """The `QUESTION`, `HYPOTHESIS` and `NOTES` that a study's file defines. Raises `ValueError` for what is no text."""
    words = {name: found.get(name, "") for name in ("QUESTION", "HYPOTHESIS", "NOTES")}
    if mistakes := [
        f"`{name}` must be a text, got {value!r}." for name, value in words.items() if not isinstance(value, str)
    ]:
        raise ValueError("\n".join(mistakes))
    question, hypothesis, notes = map(inspect.cleandoc, words.values())
    return About(question, hypothesis, notes)


def with_contrasts(study: Study, found: Mapping[str, Any], *, fast: bool = False) -> Study:
    """The study with the contrasts that its file declares; a `fast` edition has those whose arms it has.

    Raises `ValueError` with a line for each mistake.
    """
    contrasts = parse_contrasts(found.get("CONTRASTS", ()))
    if fast:
        contrasts = tuple(one for one in contrasts if not contrast_problems([one], study.arms))
    return replace(study, contrasts=contrasts)


def load_any(path: Path, changes: Mapping[str, Any]) -> Study:
    """The study of an experiment file, or that of one trial which a config file describes."""
    one = path.suffix == DATA or "get_config" in run_file(path)
    return (load_one if one else load_study)(path, changes)


def load_one(path: Path, changes: Mapping[str, Any]) -> Study:
    """The study of the one trial which a config file describes, or JSON that `qat allocate` or `qat guard` wrote."""
    if path.suffix == DATA:
        config, imports = _config_data(path)
        config = override(config, changes)
        return replace(make_study(config.name, config, {}), imports=imports)
    config = load_config(path, changes)
    return replace(make_study(config.name, config, {}), imports=(str(path.absolute()),))


def _config_data(path: Path) -> tuple[ExperimentConfig, tuple[str, ...]]:
    """The config in a JSON file, and the files that register what it names, which are run first."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        imports, values = tuple(found["imports"]), found["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} must be JSON with `imports`, a list, and `config` ({error}).") from None
    for file in imports:
        run_file(Path(file))
    return parse(ExperimentConfig, values), imports


def load_config(path: Path, changes: Mapping[str, Any]) -> ExperimentConfig:
    """The config that `get_config()` of a Python file returns, with `changes` made."""
    get_config = run_file(path).get("get_config")
    if not callable(get_config):
        raise ValueError(f"{str(path)!r} must define `get_config()`; see configs/cnn_digits.py.")
    try:
        config = get_config()
    except (Exception, SystemExit) as error:
        raise ValueError(unreadable(path, error)) from error
    if not isinstance(config, ExperimentConfig):
        raise ValueError(f"`get_config` of {str(path)!r} must return an ExperimentConfig, got {type(config).__name__}.")
    return override(config, changes)


def _labels(chosen: Sequence[tuple[str, str, Any]]) -> dict[str, str]:
    return {axis: label for axis, label, _ in chosen}


def _labelled(name: str, steps: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Steps by label, as given; records, reports and `wanted` know labels as strings."""
    for label, changes in steps.items():
        if not isinstance(label, str):
            raise ValueError(f"`{name}`: a label must be a string, got {label!r}. Write {str(label)!r}.")
        if not isinstance(changes, Mapping) or not all(isinstance(path, str) for path in changes):
            raise ValueError(
                f"`{name}`: the step {label!r} must be a dict of values by setting, such as {{'seed': 1}}, "
                f"got {changes!r}."
            )
    return list(steps.items())


def _is_wanted(wanted: Wanted, labels: dict[str, str]) -> bool:
    try:
        return bool(wanted(labels))
    except (Exception, SystemExit) as error:
        line = place(error)
        raise ValueError(
            f"`wanted` must take labels such as {labels}, but {describe_error(error)}{f' ({line})' if line else ''}."
        ) from error


def _steps(axis: str, values: Axis) -> list[tuple[str, Mapping[str, Any]]]:
    if not isinstance(axis, str):
        raise ValueError(f"`AXES`: the name of an axis must be a string, got {axis!r}. Write {str(axis)!r}.")
    if isinstance(values, Mapping):
        return _labelled(axis, values)
    if isinstance(values, str):
        raise ValueError(f"`{axis}` must be a list of values, got the string {values!r}. Put it into brackets.")
    if not isinstance(values, Sequence):
        raise ValueError(f"`{axis}` must be a list of values, or a dict of steps by label, got {values!r}.")
    name = _axis_name(axis)
    return [(f"{name} {short_name(v) if isinstance(v, QuantRecipe) else v}", {axis: v}) for v in values]


def _axis_name(axis: str) -> str:
    """The last part of a path; of one into a recipe's rules also what tensors it is of: `weights.bits`."""
    if not axis.startswith("recipe."):
        return axis.rsplit(".", 1)[-1]
    return ".".join([part for part in axis.split(".")[1:] if not part.isdecimal()][-2:])
