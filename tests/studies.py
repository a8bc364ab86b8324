"""A small study and trials that are done at once, for tests of what runs and reports them."""

from rich.console import Console

from qat.config import ExperimentConfig, lineage
from qat.record import Record, write_record
from qat.train import TrainConfig

BASE = ExperimentConfig(
    name="base",
    model="cnn",
    data="digits",
    train=TrainConfig(steps=10),
    finetune=TrainConfig(steps=5),
)
ARMS = {
    "float": {"arm": "float"},
    "control": {"arm": "control"},
    "ptq w8a8": {"arm": "ptq", "recipe": "w8a8"},
}
QUIET = Console(quiet=True)


def fake_trial(accuracy_of):
    """A trial that is done at once, with an accuracy that `accuracy_of(config)` gives."""

    def run_trial(trial, folder, stages):
        record = Record(
            trial=trial.id,
            labels=trial.labels,
            arm=trial.config.arm,
            recipe=trial.config.recipe,
            seed=trial.config.seed,
            lineage=lineage(trial.config),
            metrics={"accuracy": accuracy_of(trial.config)},
            examples=100,
            size_bytes=400 if trial.config.recipe is None else 100,
            seconds=0.0,
        )
        folder.mkdir(parents=True)
        write_record(folder, record)
        return record

    return run_trial
