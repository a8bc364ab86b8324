"""Run the search that a file declares: its suggestions become ordinary trials of a study."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from qat import data
from qat.fileio import working_folder
from qat.lab import sinks
from qat.lab.experiment import run_experiment, stage_of
from qat.lab.experiment.config import ExperimentConfig, lineage, override
from qat.lab.experiment.plugins import run_file
from qat.lab.jobs.execute import execute
from qat.lab.jobs.programs import kept, tend
from qat.lab.jobs.threads import threads, using
from qat.lab.runs.finished import set_aside
from qat.lab.runs.record import Record
from qat.lab.runs.study_folder import TRIALS, open_study, threads_for
from qat.lab.search.result import Found
from qat.lab.search.search import Watch, load_search, run_search
from qat.lab.search.storage import Point
from qat.lab.sinks import Origin, Together, together
from qat.lab.sweep.run import finished, plan
from qat.lab.sweep.study import Study, Trial


def search_study(
    file: Path, changes: Mapping[str, Any], runs: str | None, send: Sequence[str], console: Console
) -> tuple[Path, Found]:
    """The run folder of the search in `file`, which then holds its trials as a study, and what was found."""
    name = f"{file.stem}_search"
    root = working_folder(runs or f"runs/{name}")
    search = load_search(file)
    base = run_file(file).get("BASE")
    if not isinstance(base, ExperimentConfig):
        raise ValueError(f"{str(file)!r} must define `BASE`, an ExperimentConfig; see experiments/mixed_bits.py.")
    base = override(base, changes)
    for text in send:
        sinks.build(text)
    start = _Trials(root, name, together(send, warn=lambda line: console.print(line, style="yellow")))
    fingerprint = data.load(base.data).fingerprint
    tend()
    number = threads_for(root)
    with using(number), kept(threads()):
        found = run_search(
            search,
            base,
            root,
            start.run,
            identity=stage_of(base, fingerprint).key,
            on_point=lambda point: _tell(console, point),
        )
    open_study(root, Study(name, found.trials(base), (str(file.absolute()),)), number)
    return root, found


@dataclass(frozen=True)
class _Trials:
    """Runs trials in the folder `root` of a search."""

    root: Path
    name: str
    send: Callable[[Origin], Together]

    def run(self, trial: Trial, watch: Watch) -> Record:
        """The trial, start to end, or what is finished of it."""
        config, place = trial.config, self.root / TRIALS / trial.id
        key = stage_of(config, data.load(config.data).fingerprint).key
        set_aside(self.root, place, trial.id, key)
        self._share(trial)
        about = {"trial": trial.id, "labels": trial.labels, "lineage": lineage(config)}
        record = run_experiment(config, self.root, place, about, watch=watch)
        origin = Origin(self.name, trial.id, key, trial.labels, config, self.root, record.task_metrics)
        self.send(origin).finish(record, place)
        return record

    def _share(self, trial: Trial) -> None:
        """The stages before its own training, which others may start from too, at most once whoever asks for them."""
        own = ("trial", trial.config.arm)
        jobs = [job for job in plan(Study(self.name, (trial,))) if job.kind not in own]
        outcome = execute(jobs, self.root, "inprocess", is_finished=lambda job: finished(self.root, job))
        for failure in outcome.failed.values():
            raise RuntimeError(failure.error)


def _tell(console: Console, point: Point) -> None:
    words = ", ".join(f"{name} {value}" for name, value in point.values.items())
    value = "" if point.value is None else f" {point.value:.4g}"
    console.print(f"{point.number + 1:4}  {point.outcome}{value}: {words}", markup=False, highlight=False)
