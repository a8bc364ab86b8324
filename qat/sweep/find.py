"""Run the search that a file declares: its suggestions become ordinary trials of a study."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from qat import data, sinks
from qat.config import ExperimentConfig, lineage, override
from qat.pipeline import run_experiment, stage_of
from qat.record import Record
from qat.sinks import Origin, Together, together
from qat.storage import folder
from qat.sweep.execute import execute
from qat.sweep.folder import TRIALS, open_study, threads_for
from qat.sweep.found import Found
from qat.sweep.journal import Point
from qat.sweep.plan import finished, plan
from qat.sweep.programs import kept, tend
from qat.sweep.pruning import Watch
from qat.sweep.search import load_search, run_search
from qat.sweep.source import run_file
from qat.sweep.study import Study, Trial
from qat.sweep.work import set_aside
from qat.threads import threads, using


def search_study(
    file: Path, changes: Mapping[str, Any], runs: str | None, send: Sequence[str], console: Console
) -> tuple[Path, Found]:
    """The run folder of the search in `file`, which then holds its trials as a study, and what was found."""
    search = load_search(file)
    base = run_file(file).get("BASE")
    if not isinstance(base, ExperimentConfig):
        raise ValueError(f"{str(file)!r} must define `BASE`, an ExperimentConfig; see experiments/mixed_bits.py.")
    base = override(base, changes)
    for text in send:
        sinks.build(text)
    name = f"{file.stem}_search"
    root = folder(runs or f"runs/{name}")
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
        origin = Origin(self.name, trial.id, key, trial.labels, config, self.root)
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
