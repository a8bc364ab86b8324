"""Check files of configs and experiments without training anything: every mistake of every file at once."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from qat.data.problems import MissingDataError
from qat.lab.experiment.check import mismatches, missing
from qat.lab.experiment.config import ExperimentConfig, override
from qat.lab.experiment.plugins import run_file, unreadable
from qat.lab.sweep.power import metric_problems
from qat.lab.sweep.study import Study, load_study, make_study, with_contrasts

FIELD = re.compile(r"`([\w.:]+)`: (.*)")


@dataclass(frozen=True)
class Problem:
    """A mistake in a file; `field` is the path of the setting that it is about, empty where it is about none."""

    file: Path
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: " + (f"`{self.field}`: " if self.field else "") + self.message


@dataclass(frozen=True)
class Checked:
    """A file that was checked: what it defines (`config`, `experiment`, `search`), how many trials, what is wrong, and
    what could not be checked."""

    file: Path
    defines: tuple[str, ...]
    trials: int
    problems: tuple[Problem, ...]
    unchecked: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Validation:
    """The files that were checked; prints as a table, a problem a line under its file."""

    files: tuple[Checked, ...]

    @property
    def problems(self) -> list[Problem]:
        """The problems of all files."""
        return [problem for checked in self.files for problem in checked.problems]

    def __rich__(self) -> Table:
        return _table(self)


def validate(paths: Sequence[Path]) -> Validation:
    """Check every file, those in folders too: settings, axes, data sets, and recipes against their models.

    Raises `ValueError` for a path that is not there, or where there is no file to check.
    """
    files = list(dict.fromkeys(_files(paths)))
    if not files:
        raise ValueError(f"`paths` hold no Python file to check, got {', '.join(map(str, paths)) or 'none'}.")
    return Validation(tuple(check_file(path) for path in files))


def check_file(path: Path) -> Checked:
    """One file, checked."""
    try:
        found = run_file(path)
    except ValueError as error:
        return Checked(path, (), 0, tuple(_problems(path, error)))
    parts = {"config": _config, "experiment": _experiment, "search": _search}
    markers = {"config": "get_config", "experiment": "BASE", "search": "SEARCH"}
    defines = tuple(part for part, marker in markers.items() if marker in found)
    if not defines:
        message = "defines neither `get_config()` nor `BASE` with `AXES`; see configs/ and experiments/."
        return Checked(path, (), 0, (Problem(path, "", message),))
    trials, problems, unchecked = 0, [], []
    for part in defines:
        configs, mistakes = parts[part](path, found)
        trials += len(configs) if part != "search" else 0
        small, wrong = _fast(path, found) if part == "experiment" else ([], [])
        problems += [*mistakes, *wrong, *(Problem(path, *mismatch) for mismatch in mismatches([*configs, *small]))]
        unchecked += [Problem(path, *one) for one in missing(configs)]
    return Checked(path, defines, trials, tuple(dict.fromkeys(problems)), tuple(dict.fromkeys(unchecked)))


type Outcome = tuple[list[ExperimentConfig], list[Problem]]


def _config(path: Path, found: Mapping[str, Any]) -> Outcome:
    try:
        config = found["get_config"]()
    except (Exception, SystemExit) as error:
        return [], _problems(path, ValueError(unreadable(path, error)))
    if isinstance(config, ExperimentConfig):
        return [config], []
    return [], [Problem(path, "", f"`get_config` must return an ExperimentConfig, got {type(config).__name__}.")]


def _experiment(path: Path, found: Mapping[str, Any]) -> Outcome:
    base, axes, more = found["BASE"], found.get("AXES", {}), found.get("TRIALS", {})
    if not isinstance(base, ExperimentConfig):
        return [], [Problem(path, "BASE", f"must be an ExperimentConfig, got {type(base).__name__}.")]
    wrong = [name for name, value in (("AXES", axes), ("TRIALS", more)) if not isinstance(value, Mapping)]
    if wrong:
        return [base], [Problem(path, name, "must be a dict.") for name in wrong]
    if not {"AXES", "TRIALS", "SEARCH"} & set(found):
        return [base], [Problem(path, "", "`BASE` needs `AXES`, `TRIALS` or `SEARCH` beside it.")]
    try:
        study: Study = make_study(path.stem, base, axes, more, found.get("wanted"))
    except ValueError as error:
        return [base, *_valid_steps(base, axes, more)], _problems(path, error)
    return [trial.config for trial in study.trials], _contrasts(path, study, found)


def _contrasts(path: Path, study: Study, found: Mapping[str, Any]) -> list[Problem]:
    """The mistakes in the contrasts that the file declares, as far as data that are not there let them be seen."""
    try:
        with suppress(MissingDataError):
            lines = metric_problems(with_contrasts(study, found))
            return _problems(path, ValueError("\n".join(lines)))
    except ValueError as error:
        return _problems(path, error)
    return []


def _fast(path: Path, found: Mapping[str, Any]) -> Outcome:
    """The trials of the small edition, where the file has one."""
    if "FAST" not in found:
        return [], []
    try:
        return [trial.config for trial in load_study(path, {}, fast=True).trials], []
    except ValueError as error:
        return [], _problems(path, error)


def _valid_steps(
    base: ExperimentConfig, axes: Mapping[str, Any], more: Mapping[str, Any]
) -> Iterator[ExperimentConfig]:
    """Yield the base changed by a single step of one axis, where that is valid: some mismatches show already."""
    steps = [*more.values()]
    for name, values in axes.items():
        if isinstance(values, Mapping):
            steps += values.values()
        elif isinstance(values, Sequence):
            steps += [{name: value} for value in values]
    for changes in steps:
        with suppress(ValueError, AttributeError):  # the latter of a step or a name that is none
            yield override(base, changes)


def _search(path: Path, found: Mapping[str, Any]) -> Outcome:
    from qat.lab.sweep.space import Search, check_space, first_values, objective_of, trial_of

    search, base = found["SEARCH"], found.get("BASE")
    if not isinstance(search, Search) or not isinstance(base, ExperimentConfig):
        return [], [Problem(path, "SEARCH", "must be a Search, and `BASE` beside it an ExperimentConfig.")]
    try:
        check_space(search, base)
        with suppress(MissingDataError):
            objective_of(search, base)
        return [trial_of(base, first_values(search)).config], []
    except ValueError as error:
        return [], _problems(path, error)


def _problems(path: Path, error: ValueError) -> list[Problem]:
    """A problem for each line of an error that has a line for each mistake."""
    found = []
    for line in str(error).splitlines():
        match = FIELD.match(line)
        if match:
            found.append(Problem(path, match[1], match[2]))
        elif line != f"{str(path)!r}:":
            found.append(Problem(path, "", line))
    return found


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (file for file in sorted(path.rglob("*.py")) if not _hidden(file.relative_to(path)))
        elif path.exists():
            yield path
        else:
            raise ValueError(f"{str(path)!r} is not there. Name files or folders, such as configs/ experiments/.")


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _table(validation: Validation) -> Table:
    problems, files = len(validation.problems), len(validation.files)
    title = f"{files} file{'s' * (files != 1)} checked: " + (f"{problems} problems" if problems else "all well")
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD)
    for heading in ("file", "defines", "trials", "field", "problem"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "trials" else "left")
    for checked in validation.files:
        rows = (*checked.problems, *checked.unchecked) or (Problem(checked.file, "", "none"),)
        for i, problem in enumerate(rows):
            head = [str(checked.file), ", ".join(checked.defines), str(checked.trials)] if i == 0 else ["", "", ""]
            style = "red" if problem in checked.problems else "dim"
            table.add_row(*map(Text, head), Text(problem.field), Text(problem.message, style=style))
    return table
