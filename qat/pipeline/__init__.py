"""One experiment, start to end: data, fit in float, calibrate, fit again as the arm says, convert, measure, record."""

from qat.pipeline.check import check
from qat.pipeline.graph import Stage, stage_of
from qat.pipeline.run import is_finished, run_experiment, run_stage, run_trial

__all__ = ["Stage", "check", "is_finished", "run_experiment", "run_stage", "run_trial", "stage_of"]
