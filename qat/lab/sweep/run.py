"""Run a study: what is open of it, by whatever runner, and tell how it goes."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from qat import data
from qat.fileio import working_folder
from qat.lab import sinks
from qat.lab.experiment import Stage, stage_of
from qat.lab.experiment.check import refuse_misfits
from qat.lab.experiment.config import lineage
from qat.lab.jobs.display import open_view
from qat.lab.jobs.execute import WORK, Outcome, execute
from qat.lab.jobs.job import Job
from qat.lab.jobs.presence import living
from qat.lab.jobs.programs import tend
from qat.lab.jobs.threads import using
from qat.lab.runs.files import STAGES, SUPERSEDED
from qat.lab.runs.finished import faults_in, finished_trial, has_ended, is_stage_finished
from qat.lab.runs.record import read_record
from qat.lab.runs.study_folder import TRIALS, StudyFolder, children, holds_study, open_study, read_study, threads_for
from qat.lab.sweep.power import metric_problems, too_few
from qat.lab.sweep.study import Study, Trial


def run_study(
    study: Study,
    root: Path | str,
    *,
    runner: str = "inprocess",
    send: Sequence[str] = (),
    retries: int = 1,
    console: Console | None = None,
    work: str = WORK,
) -> Outcome:
    """Run the study in the folder `root` and return the outcome of every job; finished jobs are not done again.

    `runner` names a registered runner, `send` sinks. What can only be found wrong by opening it (data, models, recipes
    against them, a sink's package) is tried before any work, and raises `ValueError` with every mistake.
    """
    place = working_folder(root)
    number = threads_for(place, runner)
    with using(number):  # before data and models are opened, which starts XLA
        return _run(study, place, number, runner, send, retries, console or Console(stderr=True), work)


def _run(
    study: Study,
    place: Path,
    threads: int,
    runner: str,
    send: Sequence[str],
    retries: int,
    console: Console,
    work: str,
) -> Outcome:
    for text in send:
        sinks.build(text)
    jobs = plan(study, send)
    open_trials = {job.id for job in jobs if job.kind == "trial" and not finished(place, job)}
    refuse_misfits(trial.config for trial in study.trials if f"{TRIALS}/{trial.id}" in open_trials)
    if lines := metric_problems(study):
        raise ValueError("\n".join(lines))
    _refuse_a_second(place, study)
    opened = open_study(place, study, threads)
    tend()
    spoilt = {job.id: lines for job in jobs if (lines := damaged(place, job))}
    with open_view(console, lambda job: _described(place, job)) as view:
        for problem in (line for lines in spoilt.values() for line in lines):
            view.note(f"Warning: {problem} It is done again; what is left of it goes to {SUPERSEDED}/.")
        if others := _others(place, opened):
            view.note(f"{others} finished trials in {str(place)!r} are of other settings, and not in its report.")
        if open_trials and (warning := too_few(study)):
            view.note(f"Note: {warning}")
        outcome = execute(
            jobs,
            place,
            runner,
            is_finished=lambda job: finished(place, job),
            damaged=spoilt,
            work=work,
            retries=retries,
            view=view,
        )
    if set(read_study(place).trials) != set(opened.trials):
        raise ValueError(
            f"{str(place)!r} was swept with other settings meanwhile, and holds that study now. The trials of this one "
            "are kept: run the same command again to report them, or with another folder by `--runs`."
        )
    return outcome


def _refuse_a_second(root: Path, study: Study) -> None:
    """Raise `ValueError` where another process sweeps the folder for other trials: its report would lose them."""
    if not holds_study(root):
        return
    held, trials = read_study(root), {trial.id for trial in study.trials}
    working = living(root)
    if held.name == study.name and set(held.trials) != trials and working:
        raise ValueError(
            f"process {working[0].pid} on {working[0].host} sweeps {str(root)!r} with other settings: "
            f"{len(trials - set(held.trials))} of these {len(trials)} trials are none of its. "
            "Choose another folder with `--runs`, or wait for its end."
        )


def _others(root: Path, opened: StudyFolder) -> int:
    """The number of finished trials in the folder beside the study's."""
    return sum(path.name not in opened.trials and has_ended(path) for path in children(root / TRIALS))


def _described(root: Path, job: Job) -> str:
    """A finished job in a few words: a trial with its main number, `ptq w8a8, seed 1: accuracy 97.56 %`."""
    record = read_record(root / job.id) if job.kind == "trial" else None
    if record is None:
        return job.label
    metric = record.metric
    number = metric.text(metric.shown(record.metrics[metric.name]))
    return f"{job.label}: {metric.name} {number} {metric.unit}".rstrip()


def plan(study: Study, sinks: Sequence[str] = ()) -> list[Job]:
    """The jobs of a study, each after what it needs; what several trials need is one job. `sinks` are told of
    the trials."""
    jobs: dict[str, Job] = {}
    for trial in study.trials:
        stage = stage_of(trial.config, data.load(trial.config.data).fingerprint)
        for one in stage.walk():
            job = _job(study, trial, one, sinks)
            jobs.setdefault(job.id, job)
    return list(jobs.values())


def _job(study: Study, trial: Trial, stage: Stage, sinks: Sequence[str]) -> Job:
    is_trial = stage.kind == "trial"
    recipe = f" {trial.config.recipe_name}" if stage.kind in ("calibration", "qat") else ""
    shared = f"{stage.kind}{recipe}, seed {trial.config.seed}"
    return Job(
        id=f"{TRIALS}/{trial.id}" if is_trial else f"{STAGES}/{stage.name}",
        kind=stage.kind,
        label=", ".join(trial.labels.values()) or trial.config.name if is_trial else shared,
        key=stage.key,
        needs=tuple(f"{STAGES}/{need.name}" for need in stage.needs),
        payload={
            "config": trial.config.model_dump(mode="json"),
            "kind": stage.kind,
            "key": stage.key,
            "trial": trial.id,
            "labels": trial.labels,
            "lineage": lineage(trial.config).model_dump(),
            "imports": list(study.imports),
            "study": study.name,
            "sinks": list(sinks),
        },
    )


def finished(root: Path, job: Job) -> bool:
    """Whether a job's result is there, whole, and of the key that it has now."""
    place = root / job.id
    return is_stage_finished(place) if job.kind != "trial" else finished_trial(place, job.key) is not None


def damaged(root: Path, job: Job) -> list[str]:
    """List faults in the files of a job that was finished once, a line each."""
    return faults_in(root / job.id)
