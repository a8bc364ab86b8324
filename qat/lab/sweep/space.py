"""A declared space of configs to search: its parameters, its goal, and the trial that a choice of values makes."""

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from qat import data, tasks
from qat.lab.experiment.config import SCHEMAS, ExperimentConfig, explain, override
from qat.lab.sweep.study import Trial
from qat.numerics import MAX_BITS, MIN_BITS
from qat.recipes.layer_bits import with_layer_bits
from qat.registry import Registry, did_you_mean, parse_call
from qat.tasks.metric import Metric, find_metric

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

samplers: "Registry[BaseSampler]" = Registry("sampler")
pruners: "Registry[BasePruner]" = Registry("pruner")


@samplers.register
def tpe(seed: int, startup: int = 10, candidates: int = 24) -> "BaseSampler":
    """Tree-structured Parzen estimator (Bergstra et al. 2011), after `startup` random trials; it learns what breaks the
    budget too (Watanabe and Hutter 2022, arXiv 2211.14411)."""
    from optuna.samplers import TPESampler

    return TPESampler(n_startup_trials=startup, n_ei_candidates=candidates, seed=seed)


@samplers.register
def random(seed: int) -> "BaseSampler":
    """Every value as likely as any other."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed)


@pruners.register
def none() -> "BasePruner":
    """A pruner that stops nothing."""
    from optuna.pruners import NopPruner

    return NopPruner()


@pruners.register
def median(startup: int = 5, warmup_steps: int = 0) -> "BasePruner":
    """Stops what is worse than the median of earlier trials at the same step, `startup` trials and `warmup_steps` steps
    being let through (Golovin et al. 2017)."""
    from optuna.pruners import MedianPruner

    return MedianPruner(startup, warmup_steps)


@pruners.register
def halving(least: int = 1, factor: int = 4) -> "BasePruner":
    """Asynchronous successive halving (Li et al. 2018, arXiv 1810.05934): of those that reach `least` steps, then
    `factor` times as many and so on, one in `factor` goes on."""
    from optuna.pruners import SuccessiveHalvingPruner

    return SuccessiveHalvingPruner(least, factor)


BITS = "bits:"
type Choice = str | int | float | bool | None
type Direction = Literal["maximize", "minimize"]


class Range(BaseModel):
    """Numbers from `low` to `high`, both included; whole ones where both are, in multiples of `step` or on a `log`
    scale."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether its numbers are whole ones."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @model_validator(mode="after")
    def _holds_numbers(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"`low` must be less than `high`, got {self.low} and {self.high}.")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError(f"`log` needs low > 0 and no step, got low={self.low}, step={self.step}.")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"`step` must be above 0, got {self.step}.")
        return self


class Search(BaseModel):
    """A search over parameters, which an experiment file may define as `SEARCH` beside `BASE`.

    `space` has for each parameter a list of choices or a `Range`. A parameter is a path such as `train.learning_rate`,
    or `bits:<regex>`: the bits of the weights of the layers whose path the expression matches, set in the recipe.
    `trials` are to be run; what breaks the budget before it is run does not count. The best is the one with the best
    `objective`, by default the task's main metric, among those within the `budget`: upper bounds by name. Whether most
    or least is best the metric says; `direction` is needed for a number that no metric describes. Both name numbers of
    a record, such as `size_bytes`, which is checked before any work, `latency_ms` or `cross_entropy`; metrics are those
    of `split`, which every trial measures too. It is never the test split, whose numbers are left for the final
    figure. `sampler` and `pruner` name registered functions, such as `"tpe(startup=5)"`; a pruner stops trainings whose
    metrics, on training batches, fall behind those of earlier ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: Annotated[dict[str, Range | list[Choice]], Field(min_length=1)]
    trials: Annotated[int, Field(ge=1)]
    objective: str | None = None
    direction: Direction | None = None
    split: Literal["validation", "train"] = "validation"
    budget: dict[str, Annotated[float, Field(gt=0)]] = {}
    sampler: str = "tpe"
    pruner: str = "none"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @field_validator("space", mode="before")
    @classmethod
    def _ranges(cls, space: Any) -> Any:
        if not isinstance(space, Mapping):
            return space
        return {k: _range(k, v) if isinstance(v, Mapping) else v for k, v in space.items()}

    @field_validator("space")
    @classmethod
    def _choices(cls, space: dict[str, Range | list[Choice]]) -> dict[str, Range | list[Choice]]:
        for name, values in space.items():
            if isinstance(values, list) and (not values or len(set(map(repr, values))) < len(values)):
                raise ValueError(f"`{name}` must be a list of values that differ, at least one, got {values}.")
            if name.startswith(BITS):
                _check_bits(name, values)
        return space

    @field_validator("sampler", "pruner")
    @classmethod
    def _known(cls, text: str, info: Any) -> str:
        known = (samplers if info.field_name == "sampler" else pruners).names()
        name, _, _ = parse_call(text)
        if name not in known:
            raise ValueError(
                f"Unknown {info.field_name} {name!r}. Known: {', '.join(known)}.{did_you_mean(name, known)}"
            )
        return text


SCHEMAS.update({"Search": Search, "Range": Range})


def key_of(values: Mapping[str, Choice]) -> str:
    """Equal for equal values of the parameters."""
    return json.dumps(values, sort_keys=True)


def trial_of(base: ExperimentConfig, values: Mapping[str, Choice]) -> Trial:
    """The trial that these values of a space's parameters make of `base`. Raises `ValueError` where they do not go
    together."""
    bits: dict[str, Any] = {name.removeprefix(BITS): value for name, value in values.items() if name.startswith(BITS)}
    config = override(base, {name: value for name, value in values.items() if not name.startswith(BITS)})
    if bits:
        if config.rules is None:
            raise ValueError(
                f"`bits:` of layers need a recipe, but arm {config.arm!r} has none. Give `recipe` in BASE."
            )
        config = override(config, {"recipe": with_layer_bits(config.rules, bits)})
    return Trial({name: _label(name, value) for name, value in values.items()}, config)


def measured_base(search: Search, base: ExperimentConfig) -> ExperimentConfig:
    """A search's base with the split that it chooses by among those that are measured."""
    if search.split in base.more_splits:
        return base
    return override(base, {"more_splits": (*base.more_splits, search.split)})


def first_values(search: Search) -> dict[str, Choice]:
    """The first choice, or the least number, of every parameter."""
    return {k: values.low if isinstance(values, Range) else values[0] for k, values in search.space.items()}


def check_space(search: Search, base: ExperimentConfig) -> None:
    """Raise `ValueError` with every parameter of the space, one a line, that alone makes no valid config of `base`."""
    mistakes = {}
    for name, values in search.space.items():
        for value in [values.low, values.high] if isinstance(values, Range) else values:
            try:
                trial_of(base, {name: value})
            except ValueError as error:
                mistakes.update(dict.fromkeys(str(error).splitlines(), name))
    if mistakes:
        raise ValueError("\n".join(f"{line} (`space` {name!r})" for line, name in mistakes.items()))


MEASURED: dict[str, Metric] = {
    **{name: Metric(name, "lower") for name in ("size_bytes", "seconds", "latency_ms", "float_latency_ms")},
    **{name: Metric(name) for name in ("faster", "faster_low", "faster_high")},
}
"""Numbers of a record beside the task's metrics."""
DIRECTIONS: dict[str, Direction] = {"higher": "maximize", "lower": "minimize"}


def objective_of(search: Search, base: ExperimentConfig) -> Metric:
    """The number that a search goes by. Raises `ValueError` where nothing tells which way of it is better, where the
    search's `direction` is the other one, and where the split that it chooses by is empty."""
    dataset = data.load(base.data)
    dataset.filled(search.split)
    metrics = tasks.build(dataset.task).metrics
    name = search.objective
    found = metrics[0] if name is None else find_metric(metrics, name) or MEASURED.get(name)
    told = found and found.better and DIRECTIONS[found.better]
    if found is not None and told is not None and search.direction in (told, None):
        return found
    if found is not None and told is not None:
        raise ValueError(
            f"`direction`: of {found.name!r} {found.better} is better, but the search is to {search.direction} it. "
            "Leave `direction` out."
        )
    assert name is not None  # a main metric has a direction
    if search.direction is None:
        known = ", ".join([*(one.name for one in metrics if one.better), *MEASURED])
        raise ValueError(
            f"`objective` {name!r} has no direction that is known. Give `direction`, or one of these: {known}."
            f"{did_you_mean(name, [one.name for one in metrics])}"
        )
    return Metric(name, "higher" if search.direction == "maximize" else "lower")


def _range(name: str, fields: Mapping[str, Any]) -> Range:
    try:
        return Range.model_validate(fields)
    except ValidationError as error:
        raise ValueError(f"`{name}` is no Range: {'; '.join(explain(error).splitlines())}") from None


def _check_bits(name: str, values: Range | list[Choice]) -> None:
    try:
        re.compile(name.removeprefix(BITS))
    except re.error as error:
        raise ValueError(f"`{name}` is no regular expression after {BITS!r}: {error}.") from None
    bounds = [values.low, values.high] if isinstance(values, Range) else values
    if not all(type(value) is int and MIN_BITS <= value <= MAX_BITS for value in bounds):
        raise ValueError(f"`{name}` must be whole numbers of bits in [{MIN_BITS}, {MAX_BITS}], got {bounds}.")


def _label(name: str, value: Choice) -> str:
    if name.startswith(BITS):
        return f"{name.removeprefix(BITS)} {value} bits"
    return f"{name.rsplit('.', 1)[-1]} {value}"
