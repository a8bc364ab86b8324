"""Contents of a run folder: finished, failed, damaged and open trials, and where each ran."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from qat.lab.jobs.log import Failure, last_lines
from qat.lab.runs.cache import failure_in, faults_that_count, manifest_in, record_in
from qat.lab.runs.record import Record
from qat.lab.runs.study_folder import TRIALS, About, read_study, stage_jobs
from qat.lab.stats.contrasts import Contrast, named

type State = Literal["finished", "failed", "damaged", "open"]


@dataclass(frozen=True)
class GivenUp:
    """A trial or shared stage that failed, by its folder under the root, with the end of what it printed."""

    job: str
    failure: Failure
    log: str


@dataclass(frozen=True)
class Declared:
    """A contrast that the study declared, the ids of its arms' trials, and how many seeds of both were finished by
    then: with any, it was declared after a look."""

    contrast: Contrast
    first: frozenset[str]
    second: frozenset[str]
    seen: int = 0


@dataclass(frozen=True)
class Contents:
    """A study on disk. `trials` are the labels of all trials by id, in the study's order; `records` the finished ones',
    `damaged` what is wrong with a record that cannot be read, `spoilt` with other files of finished trials, which are
    passed over; `given_up` what failed, by folder; `contrasts` are the declared ones, `about` the author's own words.
    Where several studies were made one, `compares` are their names, and `places` the folders of trials that are not
    under the root."""

    root: Path
    name: str
    trials: dict[str, dict[str, str]]
    records: dict[str, Record]
    damaged: dict[str, str]
    given_up: dict[str, GivenUp]
    manifests: dict[str, dict[str, Any]]
    spoilt: dict[str, tuple[str, ...]] = field(default_factory=dict)
    contrasts: tuple[Declared, ...] = ()
    about: About = field(default_factory=About)
    places: Mapping[str, Path] = field(default_factory=dict)
    compares: tuple[str, ...] = ()

    @property
    def problems(self) -> list[str]:
        """A line for each damaged file."""
        return [*self.damaged.values(), *(line for lines in self.spoilt.values() for line in lines)]

    def folder(self, trial_id: str) -> Path:
        """The folder of a trial's files."""
        return self.places.get(trial_id, self.root / TRIALS / trial_id)

    @property
    def folders(self) -> dict[str, Path]:
        """The folders of the finished trials, by id."""
        return {trial: self.folder(trial) for trial in self.records}

    def state(self, trial_id: str) -> State:
        """The state of a trial."""
        if trial_id in self.records:
            return "finished"
        if trial_id in self.damaged:
            return "damaged"
        return "failed" if f"{TRIALS}/{trial_id}" in self.given_up else "open"


def read_contents(root: Path) -> Contents:
    """Read the present contents of a run folder. Raises `ValueError` where it holds no study."""
    study = read_study(root)
    trials = {
        trial: {str(axis): str(label) for axis, label in labels.items()} for trial, labels in study.trials.items()
    }
    records, damaged = {}, {}
    for trial_id in study.trials:
        found = record_in(study.trial(trial_id))
        if isinstance(found, Record):
            records[trial_id] = found
        elif found is not None:
            damaged[trial_id] = found.replace(f"{root}/", "")
    jobs = [*stage_jobs(root), *(f"{TRIALS}/{trial}" for trial in study.trials if trial not in records)]
    given_up = {job: found for job in jobs if (found := _given_up(root, job))}
    manifests = {one: facts for one in records if (facts := manifest_in(study.trial(one)))}
    spoilt = {one: tuple(lines) for one in records if (lines := _spoilt(study.trial(one), root))}
    contrasts = tuple(
        Declared(one, frozenset(named(one.first, trials)), frozenset(named(one.second, trials)), seen=seen)
        for one, seen in study.contrasts
    )
    return Contents(root, study.name, trials, records, damaged, given_up, manifests, spoilt, contrasts, study.about)


def states(contents: Contents) -> str:
    """The numbers of trials by state, in words."""
    counts = Counter(contents.state(trial) for trial in contents.trials)
    phrases = [f"{counts['finished']:,} of {len(contents.trials):,} trials finished"]
    phrases += [f"{counts[state]:,} {state}" for state in ("failed", "damaged") if counts[state]]
    return ", ".join(phrases)


def _spoilt(folder: Path, root: Path) -> list[str]:
    """List faults of a finished trial's files; of the model, which no report reads, only the size is checked."""
    return [line.replace(f"{root}/", "") for line in faults_that_count(folder)]


def _given_up(root: Path, job: str) -> GivenUp | None:
    failure = failure_in(root / job)
    return None if failure is None else GivenUp(job, failure, last_lines(root / job / Path(failure.log).name))
