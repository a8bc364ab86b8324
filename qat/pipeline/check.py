"""What would fail later, found before any long work."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import jax

from qat.pipeline.quantizing import quantized
from qat.pipeline.training import setting

if TYPE_CHECKING:
    from qat.config import ExperimentConfig


def check(configs: "Iterable[ExperimentConfig]") -> None:
    """Raise `ValueError` for data that cannot be read, or a recipe that does not fit the model."""
    for model, name, recipe in dict.fromkeys((config.model, config.data, config.recipe) for config in configs):
        where = setting(model, name)
        if recipe is not None:
            x = where.example()
            variables = jax.eval_shape(where.functions.init, jax.random.key(0), *x)
            quantized(where, recipe).inference.sites(variables, *x)
