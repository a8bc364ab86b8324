"""Run a study: what is open of it, by whatever runner, and tell how it goes."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from qat import sinks
from qat.record import read_record
from qat.report.scale import scale
from qat.storage import folder
from qat.sweep.execute import WORK, Outcome, execute
from qat.sweep.folder import TRIALS, open_study
from qat.sweep.job import Job
from qat.sweep.misfit import refuse_misfits
from qat.sweep.plan import finished, plan
from qat.sweep.study import Study
from qat.sweep.view import open_view


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
    """What became of every job of the study, in the folder `root`: what is finished there already is not done again.

    `runner` names a registered runner, `send` sinks. What can only be found wrong by opening it (data, models, recipes
    against them, a sink's package) is tried before any work, and raises `ValueError` with every mistake.
    """
    place, console = folder(root), console or Console(stderr=True)
    for text in send:
        sinks.build(text)
    jobs = plan(study, send)
    open_trials = {job.id for job in jobs if job.kind == "trial" and not finished(place, job)}
    refuse_misfits(trial.config for trial in study.trials if f"{TRIALS}/{trial.id}" in open_trials)
    opened = open_study(place, study)
    with open_view(console, lambda job: _described(place, job)) as view:
        for problem in opened.scan().damaged:
            view.note(f"Warning: {problem}")
        return execute(
            jobs,
            place,
            runner,
            is_finished=lambda job: finished(place, job),
            work=work,
            retries=retries,
            view=view,
        )


def _described(root: Path, job: Job) -> str:
    """A finished job in a few words: a trial with its main number, `ptq w8a8, seed 1: accuracy 97.56 %`."""
    record = read_record(root / job.id) if job.kind == "trial" else None
    if record is None:
        return job.label
    shown = scale(record.metric)
    number = shown.text(shown.factor * record.metrics[record.metric])
    return f"{job.label}: {record.metric} {number}{' %' if shown.factor == 100 else ''}"
