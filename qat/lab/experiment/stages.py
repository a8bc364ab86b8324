"""The stages of a trial: stages that trials share, each with a key that changes with whatever it depends on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from qat.lab.experiment.code import code_of
from qat.lab.experiment.config import ExperimentConfig, digest
from qat.lab.experiment.members import members, sources
from qat.models import pretrained
from qat.recipes.data import recipe_to_data
from qat.recipes.recipe import QuantRecipe

type Kind = Literal["float", "control", "calibration", "qat", "trial"]

CODE: dict[Kind, str] = {
    "float": "lab.experiment.training",
    "control": "lab.experiment.training",
    "calibration": "lab.experiment.quantizing",
    "qat": "lab.experiment.quantizing",
    "trial": "lab.experiment.trial",
}
ALONE = ("lab.experiment.stage_results",)  # says how each stage is made, and so imports what all of them need


@dataclass(frozen=True)
class Stage:
    """A piece of an experiment. `needs` are the stages whose results it starts from; `parts` is all that its key is a
    digest of, by name, and what is `not covered` by it."""

    kind: Kind
    key: str
    needs: tuple["Stage", ...] = ()
    parts: Mapping[str, Any] = field(default_factory=dict, compare=False)

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

    def stage(kind: Kind, settings: Mapping[str, Any], *needs: Stage) -> Stage:
        files, typed = sources(members(config, kind))
        code = code_of((CODE[kind],), files, ALONE)
        parts = {
            "kind": kind,
            "settings": {name: _plain(value) for name, value in settings.items() if value is not None},
            "data": fingerprint,
            "needs": {need.kind: need.key for need in needs},
            "code": code.files,
            "packages": code.packages,
        }
        return Stage(kind, digest(parts), needs, {**parts, "not covered": [*typed, *code.uncovered]})

    later = {"seed": config.seed} if config.float_seed is not None else {}
    start = None if config.init is None else pretrained.fingerprint(config.init)
    first = _fields(config, "model", "data", "train", "r_drop", "train_bn_batches")
    trained = stage("float", {**first, "init": start, "seed": config.first_seed})
    last = trained
    if config.arm == "control":
        last = stage("control", {**_fields(config, "finetune", "r_drop", "finetune_bn_batches"), **later}, trained)
    if config.recipe is not None:
        how = _fields(config, "recipe", "engine", "calibration_batches", "sensitive_share", "allocation")
        how["ptq"] = config.ptq or None
        last = stage("calibration", {**how, **later}, trained)
    if config.arm == "qat":
        last = stage("qat", _fields(config, "finetune", "distillation", "finetune_bn_batches"), last)
    measured = ("arm", "evaluation_batch_size", "latency_batch_size", "analysis_batches", "more_splits")
    return stage("trial", _fields(config, *measured), last)


def _fields(config: ExperimentConfig, *names: str) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, QuantRecipe):
        return recipe_to_data(value)
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
