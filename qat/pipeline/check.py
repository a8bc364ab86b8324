"""What would fail later, found before any long work."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from qat.pipeline.quantizing import quantized
from qat.pipeline.training import setting
from qat.pretrained import check_init

if TYPE_CHECKING:
    from qat.config import ExperimentConfig


def check(configs: "Iterable[ExperimentConfig]") -> None:
    """Raise `ValueError` for data that cannot be read, and for a recipe, a checkpoint or a teacher that does not fit
    the model, its data or its task."""
    for config in _different(configs):
        where = setting(config.model, config.data, config.engine)
        for name in ("distillation", "consistency"):
            if getattr(config, name) is not None and where.task.distill is None:
                raise ValueError(
                    f"`{name}`: {config.data!r} asks for a task that cannot compare outputs. Leave it out."
                )
        if config.recipe is None and config.init is None:
            continue
        variables = where.abstract_variables()
        if config.init is not None:
            check_init(config.init, variables)
        if config.recipe is not None:
            quantized(where, config.recipe).inference.sites(variables, *where.example())


def _different(configs: "Iterable[ExperimentConfig]") -> "Iterable[ExperimentConfig]":
    fields = ("model", "data", "recipe", "init", "distillation", "consistency")
    return {tuple(getattr(config, field) for field in fields): config for config in configs}.values()
