"""The settings of one experiment: validated at once, frozen, with every mistake named and a likely remedy."""

import ast
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from qat import data
from qat.engines import engines
from qat.export.exporter import check_exporters
from qat.lab.experiment.recipe import Recipe, as_data, check_folding, name_in_tables
from qat.lab.runs.record import Arm, Lineage
from qat.models.arguments import check_builder
from qat.ptq import budget_of, composition
from qat.recipes.presets import recipe as build_recipe
from qat.recipes.recipe import QuantRecipe
from qat.registry import did_you_mean, parse_call
from qat.train import ParamGroup, TrainConfig

QUANTIZED: tuple[Arm, ...] = ("ptq", "qat")


class ExperimentConfig(BaseModel):
    """One model on one data set, ending in one of the arms of the comparison.

    `float` is the trained model; `control` the same trained on for `finetune`, still in float; `ptq` quantizes it by
    `recipe` (a preset's text or a `QuantRecipe`, which is stored as data) after calibration; `qat` then trains the
    quantized function for `finetune`. `seed` decides initialisation, order of the data and calibration batches, in all
    stages; with `float_seed` the float model has that seed, and trials of several seeds share it. `init` is a
    checkpoint that the float training starts from, `hf:` and a folder or a name. `sensitive_share` gives 8 bits to the
    layers whose lower bits cost most loss, found in calibration, as many as have that share of the weights.
    `allocation` instead chooses bits for every layer within a budget, such as `size(bits=4.5)` or `operations(bits=4)`
    (see `qat.ptq.budget_of`); held-out batches, of the validation split where there is one, decide, and never the test
    split. `ptq` names post-training methods, which follow calibration in the order written, on its batches: `("smooth",
    "reestimate_bn")`; QAT starts from their result. With `train_bn_batches` the float model's normalisation gets
    statistics of so many batches after training (averaged weights carry those of the weights that were averaged), with
    `finetune_bn_batches` that of the control and of QAT, there of the quantized network. `engine` names what multiplies
    integers, in training and when served. With `fold_norms` the quantized function has its norms folded
    (`qat.fold_norms`); QAT trains it with still statistics, no dropout. `distillation` is the part of QAT's loss that
    the float model's outputs make. `r_drop` weighs, in float training and the control, how two draws of dropout differ.

    `more_splits` are measured too, as `validation/accuracy`. `latency_batch_size` asks for the time of a call with so
    many examples, beside the float model's; `analysis_batches` for the statistics of every layer on so many batches;
    `exports` for files of the model for other runtimes, such as `("onnx", "stablehlo")`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
    model: str
    data: str
    init: str | None = None
    arm: Arm = "float"
    recipe: Recipe = None
    engine: str | None = None
    fold_norms: bool = False
    train: TrainConfig
    finetune: TrainConfig | None = None
    calibration_batches: Annotated[int, Field(ge=1)] = 8
    sensitive_share: Annotated[float, Field(gt=0, le=1)] | None = None
    allocation: str | None = None
    ptq: tuple[str, ...] = ()
    train_bn_batches: Annotated[int, Field(ge=1)] | None = None
    finetune_bn_batches: Annotated[int, Field(ge=1)] | None = None
    distillation: Annotated[float, Field(gt=0, le=1)] | None = None
    r_drop: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    evaluation_batch_size: Annotated[int, Field(ge=1)] = 256
    more_splits: tuple[Literal["train", "validation"], ...] = ()
    latency_batch_size: Annotated[int, Field(ge=1)] | None = None
    analysis_batches: Annotated[int, Field(ge=0)] = 1
    exports: tuple[str, ...] = ()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    float_seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None

    @property
    def first_seed(self) -> int:
        """The seed of the float model."""
        return self.seed if self.float_seed is None else self.float_seed

    @property
    def later_seed(self) -> tuple[int, ...]:
        """The seed of what follows the float model, where it is another one's."""
        return () if self.float_seed is None else (self.seed,)

    @property
    def rules(self) -> QuantRecipe | None:
        """The recipe as rules, those of its preset where it is a text."""
        return build_recipe(self.recipe) if isinstance(self.recipe, str) else self.recipe

    @property
    def recipe_name(self) -> str | None:
        """A short name of the recipe for tables: its text, or its name with a digest of its rules; with the
        post-training methods that follow."""
        return None if self.recipe is None else name_in_tables(self.recipe, self.ptq)

    @model_validator(mode="before")
    @classmethod
    def _renamed_fields(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "consistency" not in values:
            return values
        if values.get("r_drop") is not None:
            raise ValueError("`consistency` is the earlier name of `r_drop`. Give `r_drop` alone.")
        return {"r_drop" if name == "consistency" else name: value for name, value in values.items()}

    @field_validator("model")
    @classmethod
    def _known_model(cls, text: str) -> str:
        check_builder(text)
        return text

    @field_validator("data")
    @classmethod
    def _known_data(cls, text: str) -> str:
        data.datasets.check(parse_call(text)[0])
        return text

    @field_validator("engine", "ptq", "exports")
    @classmethod
    def _known_parts(cls, named: Any, field: ValidationInfo) -> Any:
        if named:
            {"engine": engines.build, "ptq": composition, "exports": check_exporters}[str(field.field_name)](named)
        return named

    @field_validator("init")
    @classmethod
    def _known_init(cls, text: str | None) -> str | None:
        if text is not None and not text.startswith("hf:"):
            raise ValueError(f"`init` must be 'hf:' and a checkpoint's folder or name, got {text!r}.")
        return text

    @field_validator("train", "finetune")
    @classmethod
    def _one_seed(cls, stage: TrainConfig | None) -> TrainConfig | None:
        if stage is not None and stage.seed:
            raise ValueError("`seed` of one stage would hide the experiment's. Set the experiment's `seed` instead.")
        return stage

    @model_validator(mode="after")
    def _bits_are_chosen_one_way(self) -> Self:
        for name in ("sensitive_share", "allocation"):
            if self.arm not in QUANTIZED and getattr(self, name) is not None:
                raise ValueError(f"`{name}` must be left out for arm {self.arm!r}, which has no bits.")
        if self.allocation is not None:
            budget_of(self.allocation)
            if self.sensitive_share is not None:
                raise ValueError("`allocation` chooses the bits of all layers. Leave `sensitive_share` out.")
        return self

    @model_validator(mode="after")
    def _arm_has_what_it_needs(self) -> Self:
        if self.arm in QUANTIZED and self.recipe is None:
            raise ValueError(f"`recipe` must be given for arm {self.arm!r}. Name one, such as 'w8a8'.")
        if self.arm not in QUANTIZED and self.recipe is not None:
            raise ValueError(f"`recipe` must be left out for arm {self.arm!r}, got {self.recipe!r}.")
        if self.recipe is None and self.engine is not None:
            raise ValueError(f"`engine` must be left out where nothing is quantized, got {self.engine!r}.")
        check_folding(self)
        if self.arm != "qat" and self.distillation is not None:
            raise ValueError(f"`distillation` must be left out for arm {self.arm!r}, which does not train quantized.")
        if self.arm not in QUANTIZED and self.ptq:
            raise ValueError(f"`ptq` must be left out for arm {self.arm!r}, which is not quantized.")
        if self.arm not in ("control", "qat") and self.finetune_bn_batches is not None:
            raise ValueError(
                f"`finetune_bn_batches` must be left out for arm {self.arm!r}, which does not train on. "
                "After calibration the method 'reestimate_bn' in `ptq` does it."
            )
        if self.arm == "float" and self.float_seed not in (None, self.seed):
            raise ValueError(
                f"`seed` must be `float_seed` for arm 'float', got {self.seed} and {self.float_seed}: one trial is all."
            )
        if self.arm in ("control", "qat") and self.finetune is None:
            raise ValueError(f"`finetune` must be given for arm {self.arm!r}: how it trains on from the float model.")
        return self


SCHEMAS: dict[str, type[BaseModel]] = {
    schema.__name__: schema for schema in (ExperimentConfig, TrainConfig, ParamGroup)
}


def override(config: ExperimentConfig, changes: Mapping[str, Any]) -> ExperimentConfig:
    """`config` with each dotted path set to a value: `{"train.steps": 300, "recipe.rules.0.weights.bits": 4}`.

    Numbers in a path count the parts of a list, from 0; a preset's text becomes its rules where a path leads into it.
    Raises `ValueError` with every mistake.
    """
    values: Any = config.model_dump(exclude_unset=True)
    for path, value in sorted(changes.items(), key=lambda change: change[0].count(".")):  # a whole before its parts
        keys = path.split(".")
        if keys[0] == "recipe" and len(keys) > 1:
            values["recipe"] = as_data(values.get("recipe"), path)
        values = _with(values, keys, value, path)
    return parse(ExperimentConfig, values)


def _with(place: Any, keys: list[str], value: Any, path: str) -> Any:
    """Plain values with the one at `keys` changed; dicts that are not there yet are made."""
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(place, list | tuple):
        if not (key.isdecimal() and int(key) < len(place)):
            reached = path.removesuffix(".".join(keys)).rstrip(".")
            known = f"has parts 0 to {len(place) - 1}" if place else "is empty"
            raise ValueError(f"`{path}`: {reached} {known}, got {key!r}.")
        i = int(key)
        return [*place[:i], _with(place[i], rest, value, path), *place[i + 1 :]]
    if place is not None and not isinstance(place, Mapping):
        reached = path.removesuffix(".".join(keys)).rstrip(".")
        raise ValueError(f"`{path}`: {reached} is a value and has no fields.")
    return {**(place or {}), key: _with((place or {}).get(key), rest, value, path)}


def parse[T: BaseModel](schema: type[T], values: Mapping[str, Any]) -> T:
    """`values` as the schema's model. Raises `ValueError` with one line per mistake."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise ValueError(explain(error)) from None


def explain(error: ValidationError) -> str:
    """One line per mistake: its path, what is wrong, and the nearest known name for an unknown field."""
    root = SCHEMAS.get(error.title)
    return "\n".join(
        _located(_path(e["loc"]) or error.title, _problem(e, root)) for e in error.errors(include_url=False)
    )


def parse_assignment(text: str) -> tuple[str, Any]:
    """Path and value of `train.steps=300`; what is no Python literal is a string."""
    path, equals, value = text.partition("=")
    if not (equals and path.strip()):
        raise ValueError(f"`--set` takes path=value, such as train.steps=300, got {text!r}.")
    try:
        return path.strip(), ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return path.strip(), value.strip()


def given(*values: Any) -> tuple[Any, ...]:
    """The values that are not None: settings that count only where they are set."""
    return tuple(value for value in values if value is not None)


def digest(*parts: BaseModel | Mapping[str, Any] | str | int | None) -> str:
    """Twelve hexadecimal digits that change with any of the parts."""
    plain = [part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def lineage(config: ExperimentConfig) -> Lineage:
    """Digests of the settings that the outcome of `config` depends on."""
    more = given(config.init, config.train_bn_batches)
    stage = digest(config.model, config.data, config.train, config.first_seed, *more)
    further = (*config.later_seed, *given(config.finetune_bn_batches))
    unset = ["fold_norms"] * (not config.fold_norms)
    group = config.model_dump(mode="json", exclude={"name", "seed", "exports", *unset})
    return Lineage(
        float_stage=stage,
        control=digest(stage, config.finetune, *further) if config.finetune else None,
        group=digest(*(f"{name}={value}" for name, value in group.items())),
    )


def _located(path: str, problem: str) -> str:
    """A problem after its path, unless it names paths inside of that one itself."""
    return problem if problem.startswith((f"`{path}.", f"`{path}`:")) else f"`{path}`: {problem}"


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)


def _problem(mistake: Any, root: type[BaseModel] | None) -> str:
    if mistake["type"] == "extra_forbidden":
        known = _fields(root, mistake["loc"][:-1])
        hint = did_you_mean(str(mistake["loc"][-1]), known)
        return f"unknown field.{hint or ' Known: ' + ', '.join(known) + '.'}"
    if mistake["type"] == "missing":
        return "missing; it has no default."
    if mistake["type"] == "value_error":
        return str(mistake["ctx"]["error"])
    return f"{mistake['msg']}, got {mistake['input']!r}."


def _fields(schema: type[BaseModel] | None, location: tuple[int | str, ...]) -> list[str]:
    """The fields at a place inside the schema; nested models are those of `SCHEMAS`."""
    for name in location:
        if isinstance(name, int):
            continue  # a place in a tuple of nested models
        field = schema.model_fields.get(str(name)) if schema else None
        names = str(field.annotation) if field else ""
        schema = next((nested for title, nested in SCHEMAS.items() if title in names), None)
    return list(schema.model_fields) if schema else []
