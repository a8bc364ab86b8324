"""Run the trials of a study one after another, each once."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from qat import pipeline
from qat.record import Record
from qat.sweep.folder import open_study
from qat.sweep.study import Study, Trial

type RunTrial = Callable[[Trial, Path, Path], Record]


def run_study(study: Study, root: Path, console: Console, run_trial: RunTrial | None = None) -> list[Record]:
    """The records of all trials, in order; those that `root` holds already are read, the others run.

    `run_trial(trial, folder, stages)` writes and returns a record; by default it is the pipeline, and what can only be
    found wrong by opening it (data, recipes against the model) is tried before the first trial.
    """
    folder = open_study(root, study)
    scan = folder.scan()
    for problem in scan.damaged:
        console.print(f"Warning: {problem}", style="yellow", markup=False)
    open_trials = [trial for trial in study.trials if trial.id not in scan.records]
    done = len(scan.records)
    if done:
        console.print(f"{done} of {len(study.trials)} trials are finished already.")
    if run_trial is None:
        pipeline.check([trial.config for trial in open_trials])
    records = dict(scan.records)
    for number, trial in enumerate(open_trials, start=done + 1):
        record = records[trial.id] = (run_trial or run_one)(trial, folder.trial(trial.id), folder.stages)
        name = ", ".join(trial.labels.values()) or trial.config.name
        accuracy = f"{100 * record.metrics['accuracy']:.2f} %"
        line = f"{number:3}/{len(study.trials)}  {name}: accuracy {accuracy}, {record.seconds:.1f} s"
        console.print(line, markup=False, highlight=False)
    return [records[trial.id] for trial in study.trials]


def run_one(trial: Trial, folder: Path, stages: Path) -> Record:
    """The trial's experiment, start to end."""
    return pipeline.run(trial.config, folder, stages, trial=trial.id, labels=trial.labels)
