"""A job's work, in whatever process or machine a runner chose: from its payload to its finished folder."""

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qat import data
from qat.lab.experiment import Stage, run_stage, run_trial, stage_of
from qat.lab.experiment.code import load_anew
from qat.lab.experiment.config import ExperimentConfig, parse
from qat.lab.experiment.plugins import register, run_file
from qat.lab.experiment.together import together
from qat.lab.jobs.job import Report
from qat.lab.jobs.turns import Share
from qat.lab.runs.finished import set_aside
from qat.lab.runs.study_folder import TRIALS
from qat.lab.sinks import Origin, Together, sinks
from qat.lab.sinks import together as sent_together
from qat.registry import parse_call
from qat.runtime import keep_freed_memory, make_room
from qat.train import Fit

__all__ = ["run_job", "together"]


def run_job(root: str, payload: Mapping[str, Any], report: Report, share: Share = Fit.alone) -> None:
    """Do the job of `qat.lab.sweep.run`; what its folder holds already is continued. `share` does its training.

    Raises `ValueError` where the code or the data here are not those that the job was planned with.
    """
    make_room()
    keep_freed_memory()
    place = Path(root)
    with_sinks = all(parse_call(text)[0] in sinks for text in payload["sinks"])
    register(payload["config"], payload["imports"], with_sinks)
    config, stage = _planned(payload)
    if stage.kind == "trial":
        _trial(config, stage, place, payload)
    else:
        run_stage(stage, place, report, train=share)


def _planned(payload: Mapping[str, Any]) -> tuple[ExperimentConfig, Stage]:
    """The job's config and stage. A process that has outlived an edit loads the user's code anew where the job is of
    that code."""
    for again in (False, True):
        if again and load_anew():
            for file in payload["imports"]:
                run_file(Path(file))
        config = parse(ExperimentConfig, payload["config"])
        for stage in stage_of(config, data.load(config.data).fingerprint).walk():
            if (stage.kind, stage.key) == (payload["kind"], payload["key"]):
                return config, stage
    raise ValueError(
        f"this job was planned as {payload['kind']} {payload['key']}, but its code or data have changed since. "
        "Run the sweep again."
    )


def _trial(config: ExperimentConfig, stage: Stage, root: Path, payload: Mapping[str, Any]) -> None:
    place = root / TRIALS / payload["trial"]
    set_aside(root, place, payload["trial"], stage.key)
    about = {name: payload[name] for name in ("trial", "labels", "lineage")}
    record = run_trial(config, stage, root, place, about)
    if payload["sinks"]:
        origin = Origin(payload["study"], record.trial, record.key, record.labels, config, root, record.task_metrics)
        _send(tuple(payload["sinks"]))(origin).finish(record, place)


@functools.cache
def _send(texts: tuple[str, ...]) -> Callable[[Origin], Together]:
    """The sinks, opened once a process; what goes wrong with them is a line on stderr."""
    return sent_together(texts, warn=lambda line: print(line, file=sys.stderr))  # noqa: T201
