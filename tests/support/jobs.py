"""A study that trains in moments, and its jobs done one after another."""

from studies import ARMS, BASE

from qat.lab.experiment.config import override
from qat.lab.runs.study_folder import open_study
from qat.lab.sweep.run import finished, plan
from qat.lab.sweep.work import run_job

TINY = override(
    BASE,
    {
        "model": "cnn(width=4)",
        "train.steps": 4,
        "train.batch_size": 16,
        "finetune.steps": 3,
        "finetune.batch_size": 16,
        "calibration_batches": 1,
    },
)
ALL = {**ARMS, "ptq w4a4": {"arm": "ptq", "recipe": "w4a4"}, "qat w8a8": {"arm": "qat", "recipe": "w8a8"}}


def silent(*_):
    """A report that nobody reads."""


def run_all(study, root):
    """Do the open jobs of a study, one after another; their ids."""
    open_study(root, study)
    done = []
    for job in plan(study):
        if not finished(root, job):
            run_job(str(root), job.payload, silent)
            done.append(job.id)
        assert finished(root, job)
    return done
