"""A small study of a text classifier, run once for all tests here."""

import pytest
from rich.console import Console

from qat.lab.experiment.config import ExperimentConfig
from qat.lab.sweep.run import run_study
from qat.lab.sweep.study import make_study
from qat.train import TrainConfig

BASE = ExperimentConfig(
    name="reviews",
    model="bert(size='tiny', layers=1, width=32, heads=2, hidden=64, vocabulary=120, pooling='mean', dropout=0.0)",
    data="sentiment(examples=128, held_out=0.5)",
    train=TrainConfig(steps=60, batch_size=32, learning_rate=1e-2),
    calibration_batches=1,
    evaluation_batch_size=16,
    analysis_batches=0,
)
AXES = {"arm": {"float": {"arm": "float"}, "ptq": {"arm": "ptq", "recipe": "w2a2(edges='same')"}}}


@pytest.fixture(scope="session")
def reviews(tmp_path_factory):
    """The folders of its float and its PTQ trial."""
    root, study = tmp_path_factory.mktemp("reviews"), make_study("reviews", BASE, AXES)
    run_study(study, root, console=Console(quiet=True))
    return [root / "trials" / trial.id for trial in study.trials]
