"""One experiment, start to end: data, fit in float, calibrate, fit again as the arm says, convert, measure, record."""

from qat.lab.experiment.check import check
from qat.lab.experiment.run import is_finished, run_experiment, run_stage, run_trial
from qat.lab.experiment.stages import Stage, stage_of

__all__ = ["Stage", "check", "is_finished", "run_experiment", "run_stage", "run_trial", "stage_of"]
