"""The folder of a study on disk: which study it holds, and which of its trials are finished."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from qat.fileio import is_local, write_atomically
from qat.lab.jobs.threads import USUAL, asked, cores, started
from qat.lab.runs.files import STAGES
from qat.lab.runs.record import RECORD_FILE, Record, read_record
from qat.lab.stats.contrasts import Contrast, from_json, named, to_json
from qat.registry import parse_call

STUDY_FILE = "study.json"
TRIALS = "trials"
SEEN = "seen"  # of a contrast in the file: seeds of both arms that were finished when it was declared


@dataclass(frozen=True)
class About:
    """A study in its author's words, each empty where nothing was written: the `question`, the `hypothesis` and
    `notes`. So many trials were `finished` when the hypothesis was written down: with any, it came after a look."""

    question: str = ""
    hypothesis: str = ""
    notes: str = ""
    finished: int = 0


@dataclass(frozen=True)
class StudyFolder:
    """`root` holds `study.json`, `stages/` and `trials/<id>/`. `trials` are the labels by id, in order; `imports` the
    files that register what the trials name, `threads` those that XLA computes all of it with. `contrasts` are the
    declared ones, each with how many seeds of both its arms were finished when it was: those with none were declared
    before anyone could look. `about` holds the author's own words."""

    root: Path
    name: str
    trials: dict[str, dict[str, str]]
    imports: tuple[str, ...] = ()
    threads: int | None = None
    contrasts: tuple[tuple[Contrast, int], ...] = ()
    about: About = About()

    def trial(self, trial_id: str) -> Path:
        """The folder of one trial."""
        return self.root / TRIALS / trial_id

    def scan(self) -> "Scan":
        """The states of the study's trials."""
        records, damaged = {}, []
        for trial_id in self.trials:
            try:
                record = read_record(self.trial(trial_id))
            except ValueError as error:
                damaged.append(str(error))
                continue
            if record is not None:
                records[trial_id] = record
        return Scan(records, tuple(damaged))


@dataclass(frozen=True)
class Scan:
    """Finished trials by id, in the study's order, and what is wrong with each record that could not be read."""

    records: dict[str, Record]
    damaged: tuple[str, ...]


class Planned(Protocol):
    """A study to be run: its name, its trials with `id` and `labels`, and the files that define it."""

    @property
    def name(self) -> str:
        """Name of the study."""
        ...

    @property
    def trials(self) -> Sequence[Any]:
        """Trials, each with `id` and `labels`."""
        ...

    @property
    def imports(self) -> tuple[str, ...]:
        """Files that define it."""
        ...

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """Comparisons that it declares."""
        ...

    @property
    def about(self) -> About:
        """Question, hypothesis and notes of its author."""
        ...


def open_study(root: Path, study: Planned, threads: int | None = None) -> StudyFolder:
    """The folder of `study`, made where it is missing; its `threads` stay what they were at first.

    So do contrasts of which results are there: they stay declared, and those that come now are marked as later. Raises
    `ValueError` where it is another study's.
    """
    if root.exists() and not root.is_dir():
        raise ValueError(f"`--runs` must be a folder, but {str(root)!r} is a file. Choose another.")
    held: StudyFolder | None = None
    if (root / STUDY_FILE).exists():
        held = read_study(root)
        name, threads = held.name, held.threads or threads
        if name != study.name:
            raise ValueError(
                f"{str(root)!r} belongs to the study {name!r}, not to {study.name!r}. Choose another with `--runs`."
            )
    elif root.exists() and any(root.iterdir()) and not (root / TRIALS).is_dir():
        raise ValueError(f"{str(root)!r} is not empty and holds no study. Choose another folder with `--runs`.")
    root.mkdir(parents=True, exist_ok=True)
    trials = {trial.id: trial.labels for trial in study.trials}
    listed = [{"id": trial_id, "labels": labels} for trial_id, labels in trials.items()]
    contrasts = _declared(root, study.contrasts, trials, held)
    content = {"name": study.name, "imports": study.imports, "trials": listed, "threads": threads}
    content["contrasts"] = [{**to_json(one), SEEN: seen} for one, seen in contrasts]
    about = _about(root, study.about, trials, held)
    content["about"] = asdict(about)
    write_atomically(root / STUDY_FILE, json.dumps(content, indent=2) + "\n")
    return StudyFolder(root, study.name, trials, study.imports, threads, contrasts, about)


def _about(root: Path, now: About, trials: Collection[str], held: StudyFolder | None) -> About:
    """A study's words, with the number of its trials that were finished when the hypothesis was first written so."""
    if not now.hypothesis:
        return now
    if held is not None and held.about.hypothesis == now.hypothesis:
        return replace(now, finished=held.about.finished)
    return replace(now, finished=len(_finished(root, trials)))


def _finished(root: Path, trials: Iterable[str]) -> set[str]:
    return {one for one in trials if (root / TRIALS / one / RECORD_FILE).exists()}


def _declared(
    root: Path, contrasts: Sequence[Contrast], trials: Mapping[str, Mapping[str, str]], held: StudyFolder | None
) -> tuple[tuple[Contrast, int], ...]:
    """The contrasts of a study with the seeds of both arms that are finished, first those that it was opened with."""
    before = dict(held.contrasts) if held is not None else {}
    if not before and not contrasts:
        return ()
    finished = _finished(root, trials)
    seen = {
        one: min(len(finished.intersection(named(name, trials))) for name in (one.first, one.second))
        for one in (*before, *contrasts)
    }
    stay = {one: count for one, count in before.items() if one in contrasts or seen[one]}
    return tuple({**{one: seen[one] for one in contrasts}, **stay}.items())


def holds_study(root: Path) -> bool:
    """Whether a folder is that of a study, damaged or not."""
    return (root / STUDY_FILE).is_file()


def stage_jobs(root: Path) -> list[str]:
    """The ids of the stages that trials share and that have a folder under the root."""
    return [f"{STAGES}/{path.name}" for path in children(root / STAGES)]


def children(folder: Path, prefix: str = "") -> list[Path]:
    """Paths in a folder whose names begin with `prefix`, in order; none where there is no such folder."""
    try:
        return sorted(path for path in folder.iterdir() if path.name.startswith(prefix))
    except (FileNotFoundError, NotADirectoryError):
        return []


def root_of(trial: Path) -> Path:
    """The run folder that a trial's folder `RUNS/trials/ID` lies in."""
    return (trial.absolute() if is_local(trial) else trial).parent.parent


def read_study(root: Path) -> StudyFolder:
    """The study that a folder holds."""
    path = root / STUDY_FILE
    if not path.is_file():
        raise ValueError(f"{str(root)!r} holds no study: there is no {STUDY_FILE} in it. Run `qat sweep FILE` first.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        trials = [{"id": one, "labels": {}} if isinstance(one, str) else one for one in found["trials"]]
        labels = {str(one["id"]): dict(one["labels"]) for one in trials}
        threads = found.get("threads")
        contrasts = tuple((from_json(one), int(one.get(SEEN, 0))) for one in found.get("contrasts", ()))
        imports = tuple(found.get("imports", ()))
        about = _words(dict(found.get("about", {})))
        name, threads = str(found["name"]), threads and max(1, int(threads))
        return StudyFolder(root, name, labels, imports, threads, contrasts, about)
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{str(path)!r} is damaged. Delete this one file and run the same sweep again: "
            "its finished trials are kept."
        ) from None


def _words(found: Mapping[str, Any]) -> About:
    told = {name: str(found.get(name, "")) for name in ("question", "hypothesis", "notes")}
    return About(**told, finished=int(found.get("finished", 0)))


def threads_for(root: Path, runner: str = "") -> int:
    """The threads that XLA is to compute the study in a folder with, in every process: as at its first run, or at that
    as many as the runner or the environment names, else as there are cores, up to `USUAL`."""
    held = read_study(root).threads if (root / STUDY_FILE).is_file() else None
    named = parse_call(runner)[2].get("threads") if runner else None
    return held or named or asked() or started() or min(len(cores()), USUAL)
