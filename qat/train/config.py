"""The settings of one training run: validated, frozen, the only place of their defaults."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from qat.train.optimizer import ParamGroup, optimizers, schedules

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TrainConfig(BaseModel):
    """The settings of `fit`; `optimizer` and `schedule` name registered functions, such as `"sgd(momentum=0.8)"`;
    `groups` are parameters with settings of their own.

    A batch of `batch_size` examples is one optimizer step; `accumulate` splits it into as many micro-batches.
    `None` switches off: `clip_norm` no clipping, `ema_decay` no average of the weights, `freeze_bn_step` never
    freeze, `devices` all local ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: Count
    batch_size: Count = 64
    learning_rate: Positive = 1e-3
    optimizer: str = "adamw"
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-4
    groups: tuple[ParamGroup, ...] = ()
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    schedule: str = "cosine"
    clip_norm: Positive | None = 1.0
    accumulate: Count = 1
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    freeze_bn_step: Annotated[int, Field(ge=0)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    checkpoint_every: Count = 1000
    log_every: Count = 50
    devices: Count | None = None

    @field_validator("optimizer")
    @classmethod
    def _known_optimizer(cls, name: str) -> str:
        optimizers.build(name, weight_decay=0.0)
        return name

    @field_validator("schedule")
    @classmethod
    def _known_schedule(cls, name: str) -> str:
        schedules.build(name)
        return name

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"`warmup_steps` must be less than `steps`, got {self.warmup_steps} of {self.steps}. "
                "Shorten the warm-up or train longer."
            )
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"`accumulate` must divide `batch_size`, got {self.accumulate} and {self.batch_size}. "
                "Change one of the two."
            )
        return self
