"""What a trial is made from: stages that trials share, each with a key that changes with whatever it depends on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qat import data, models, pretrained, tasks
from qat.code import code_digest, needed
from qat.config import ExperimentConfig, digest, given

type Kind = Literal["float", "control", "calibration", "qat", "trial"]

CODE: dict[Kind, str] = {
    "float": "pipeline.training",
    "control": "pipeline.training",
    "calibration": "pipeline.quantizing",
    "qat": "pipeline.quantizing",
    "trial": "pipeline.trial",
}


@dataclass(frozen=True)
class Stage:
    """A piece of an experiment. `needs` are the stages whose results it starts from."""

    kind: Kind
    key: str
    needs: tuple["Stage", ...] = ()

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.kind}-{self.key}"

    def walk(self) -> Iterator["Stage"]:
        """The stages that it needs, each before what needs it, and then itself."""
        for need in self.needs:
            yield from need.walk()
        yield self


def stage_of(config: ExperimentConfig, fingerprint: str) -> Stage:
    """The trial of `config` on data of that fingerprint, as the last of its stages.

    A key is a digest of the settings that a stage uses, the code that it runs, the data, and the keys of its needs.
    """

    def stage(kind: Kind, settings: tuple[Any, ...], *needs: Stage) -> Stage:
        code = code_digest(_files(kind, config))
        return Stage(kind, digest(kind, code, fingerprint, *settings, *(need.key for need in needs)), needs)

    start = None if config.init is None else pretrained.fingerprint(config.init)
    trained = stage(
        "float", (config.model, config.data, config.train, config.first_seed, *given(start, config.consistency))
    )
    last = trained
    if config.arm == "control":
        last = stage("control", (config.finetune, *config.later_seed, *given(config.consistency)), trained)
    if config.recipe is not None:
        how = (config.recipe, config.calibration_batches, *given(config.sensitive_share), *config.later_seed)
        last = stage("calibration", how, trained)
    if config.arm == "qat":
        last = stage("qat", (config.finetune, *given(config.distillation)), last)
    measured = (config.evaluation_batch_size, config.latency_batch_size, config.analysis_batches, *config.more_splits)
    return stage("trial", (config.arm, *measured), last)


def _files(kind: Kind, config: ExperimentConfig) -> frozenset[Path]:
    task = data.load(config.data).task
    named = (models.models.source(config.model), data.datasets.source(config.data), tasks.tasks.source(task))
    return needed((CODE[kind],), tuple(map(Path, named)))
