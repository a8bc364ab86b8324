"""Train and evaluate any function of (params, state, batch): `fit`, `fit_together`, `evaluate` and what they take and
give."""

from qat.train.config import TrainConfig
from qat.train.evaluate import evaluate, per_example
from qat.train.fit import FitResult, fit
from qat.train.optimizer import ParamGroup, matching, optimizers, schedules
from qat.train.together import Fit, fit_together

__all__ = [
    "Fit",
    "FitResult",
    "ParamGroup",
    "TrainConfig",
    "evaluate",
    "fit",
    "fit_together",
    "matching",
    "optimizers",
    "per_example",
    "schedules",
]
