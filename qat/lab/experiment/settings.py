"""The settings of each stage of a trial: the part of its config that the stage's result, and so its key, depend on."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from pydantic import BaseModel

from qat.lab.experiment.config import ExperimentConfig
from qat.lab.runs.record import Arm
from qat.models import pretrained
from qat.recipes.data import recipe_to_data
from qat.recipes.presets import recipe as build_recipe
from qat.recipes.recipe import QuantRecipe
from qat.train import TrainConfig

type Kind = Literal["float", "control", "calibration", "qat", "trial"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a stage; `code` is the module whose code, with all that it imports, makes its result."""

    kind: ClassVar[Kind]
    code: ClassVar[str] = "lab.experiment.training"
    model: str
    data: str
    seed: int

    def keyed(self) -> dict[str, Any]:
        """Plain values of the settings that are given, as a key holds them."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: _plain(value) for name, value in values.items() if value is not None}

    @classmethod
    def of(cls, config: ExperimentConfig, **more: Any) -> Any:
        """The part of `config` that has the names of this stage's fields, and `more`."""
        names = {one.name for one in fields(cls)} - {*more}
        return cls(**{name: getattr(config, name) for name in names}, **more)


@dataclass(frozen=True, kw_only=True)
class FloatSettings(Settings):
    """Training in float from random parameters, or from the checkpoint `init`, which a key holds by its content."""

    kind = "float"
    init: str | None
    train: TrainConfig
    r_drop: float | None
    train_bn_batches: int | None

    def keyed(self) -> dict[str, Any]:
        """See the base."""
        return super().keyed() | ({} if self.init is None else {"init": pretrained.fingerprint(self.init)})


@dataclass(frozen=True, kw_only=True)
class ControlSettings(Settings):
    """Training on in float; `batch_size` is that of the float training, for statistics estimated anew."""

    kind = "control"
    finetune: TrainConfig
    r_drop: float | None
    finetune_bn_batches: int | None
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class QuantizedSettings(Settings):
    """Settings of all stages with a quantized function. `batch_size` is that of the float training."""

    code = "lab.experiment.quantizing"
    recipe: str | QuantRecipe
    engine: str | None
    fold_norms: bool
    sensitive_share: float | None
    allocation: str | None
    batch_size: int

    @property
    def rules(self) -> QuantRecipe:
        """The recipe as rules."""
        return build_recipe(self.recipe) if isinstance(self.recipe, str) else self.recipe


@dataclass(frozen=True, kw_only=True)
class CalibrationSettings(QuantizedSettings):
    """Ranges and bits from batches of training data, and then the post-training methods `ptq`."""

    kind = "calibration"
    calibration_batches: int
    ptq: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class QatSettings(QuantizedSettings):
    """Training with quantization in the loop."""

    kind = "qat"
    finetune: TrainConfig
    distillation: float | None
    finetune_bn_batches: int | None


@dataclass(frozen=True, kw_only=True)
class TrialSettings(Settings):
    """The measurement of a trained model, quantized where there is a recipe."""

    kind = "trial"
    code = "lab.experiment.trial"
    arm: Arm
    recipe: str | QuantRecipe | None
    engine: str | None
    fold_norms: bool
    sensitive_share: float | None
    allocation: str | None
    evaluation_batch_size: int
    latency_batch_size: int | None
    analysis_batches: int
    more_splits: tuple[str, ...]
    exports: tuple[str, ...]


def _plain(value: Any) -> Any:
    if isinstance(value, QuantRecipe):
        return recipe_to_data(value)
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
