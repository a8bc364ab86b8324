"""A study as a graph of jobs: stages that several trials share, once each, and the trials."""

from collections.abc import Sequence
from pathlib import Path

from qat import data
from qat.config import lineage
from qat.files import DONE_FILE, STAGES
from qat.pipeline import Stage, stage_of
from qat.record import RECORD_FILE, read_record
from qat.sealed import faults, is_whole
from qat.storage import is_local
from qat.sweep.folder import TRIALS
from qat.sweep.job import Job
from qat.sweep.study import Study, Trial


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
    recipe = f" {trial.config.recipe}" if stage.kind in ("calibration", "qat") else ""
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
    if job.kind != "trial":
        return is_whole(root / job.id / DONE_FILE)
    try:
        record = read_record(root / job.id)
    except ValueError:
        return False
    return record is not None and record.key == job.key and is_whole(root / job.id / RECORD_FILE)


def damaged(root: Path, job: Job) -> list[str]:
    """What is wrong with the files of a job that was finished once, a line each."""
    path = root / job.id / (RECORD_FILE if job.kind == "trial" else DONE_FILE)
    try:
        read_record(root / job.id)
    except ValueError as error:
        return [str(error)]
    return faults(path, by_size=not is_local(root)) if path.exists() else []
