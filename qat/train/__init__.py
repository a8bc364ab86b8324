"""Train and evaluate any function of (params, state, batch): `fit`, `evaluate` and what they take and give."""

from qat.train.config import TrainConfig
from qat.train.evaluate import evaluate, per_example
from qat.train.fit import FitResult, fit
from qat.train.optimizer import ParamGroup, matching, optimizers, schedules

__all__ = [
    "FitResult",
    "ParamGroup",
    "TrainConfig",
    "evaluate",
    "fit",
    "matching",
    "optimizers",
    "per_example",
    "schedules",
]
