"""Run a study: what is open of it, by whatever runner, and tell how it goes."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from qat import sinks
from qat.files import SUPERSEDED
from qat.record import RECORD_FILE, read_record
from qat.report.scale import scale
from qat.storage import folder
from qat.sweep.alive import living
from qat.sweep.execute import WORK, Outcome, execute
from qat.sweep.folder import STUDY_FILE, TRIALS, StudyFolder, open_study, read_study, threads_for
from qat.sweep.job import Job
from qat.sweep.misfit import refuse_misfits
from qat.sweep.plan import damaged, finished, plan
from qat.sweep.programs import tend
from qat.sweep.seeds import too_few
from qat.sweep.study import Study
from qat.sweep.view import open_view
from qat.threads import using


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
    place = folder(root)
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
    if not (root / STUDY_FILE).exists():
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
    """How many finished trials the folder holds beside the study's."""
    return sum(path.parent.name not in opened.trials for path in (root / TRIALS).glob(f"*/{RECORD_FILE}"))


def _described(root: Path, job: Job) -> str:
    """A finished job in a few words: a trial with its main number, `ptq w8a8, seed 1: accuracy 97.56 %`."""
    record = read_record(root / job.id) if job.kind == "trial" else None
    if record is None:
        return job.label
    shown = scale(record.metric)
    number = shown.text(shown.factor * record.metrics[record.metric])
    return f"{job.label}: {record.metric} {number}{' %' if shown.factor == 100 else ''}"
