"""qat: quantization as a JAX transformation, and the experiments that say what it costs.

q = qat.quantize(fn, qat.recipe("w8a8"))    # any function of (params, *inputs)
print(q.sites(params, x))                   # what is there, and what stays float and why
state = q.calibrate(params, batches)        # ranges
y = q.simulate(params, state, x)            # integer arithmetic with straight-through gradients
int8 = q.convert(params, state, x)          # integer weights
y8 = q.serve(int8, x)                       # the same result, bit for bit
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qat.core.convert import Converted as Converted
    from qat.core.sites import Site as Site
    from qat.core.state import QuantState as QuantState
    from qat.export.exported import export_model as export_model
    from qat.export.fold import fold_norms as fold_norms
    from qat.export.safetensors import load as load
    from qat.export.safetensors import save as save
    from qat.export.states import load_state as load_state
    from qat.export.states import save_state as save_state
    from qat.export.target_check import check_target as check_target
    from qat.export.targets import recipe_for as recipe_for
    from qat.recipes.presets import recipe as recipe
    from qat.recipes.recipe import QuantRecipe as QuantRecipe
    from qat.recipes.recipe import QuantRule as QuantRule
    from qat.recipes.recipe import TensorSpec as TensorSpec
    from qat.transform import Quantized as Quantized
    from qat.transform import quantize as quantize

__version__ = "0.1.0"

_HOME = {
    "Converted": "qat.core.convert",
    "QuantRecipe": "qat.recipes.recipe",
    "QuantRule": "qat.recipes.recipe",
    "QuantState": "qat.core.state",
    "Quantized": "qat.transform",
    "Site": "qat.core.sites",
    "TensorSpec": "qat.recipes.recipe",
    "check_target": "qat.export.target_check",
    "export_model": "qat.export.exported",
    "fold_norms": "qat.export.fold",
    "load": "qat.export.safetensors",
    "load_state": "qat.export.states",
    "quantize": "qat.transform",
    "recipe": "qat.recipes.presets",
    "recipe_for": "qat.export.targets",
    "save": "qat.export.safetensors",
    "save_state": "qat.export.states",
}
_WINGS = {
    name: f"qat.{name}"
    for name in (
        "analysis", "data", "engines", "export", "lab", "models", "observers", "ptq", "quantizers", "recipes",
        "tasks", "train",
    )
} | {"results": "qat.lab.runs"}  # fmt: skip
_EXTRA = {"data": "data", "lab": "lab", "models": "train", "results": "lab", "tasks": "train", "train": "train"}
__all__ = sorted([*_HOME, *_WINGS])


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that `import qat` and `qat --help` are quick."""
    if name in _WINGS:
        return _wing(name)
    if name not in _HOME:
        raise AttributeError(f"module 'qat' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def _wing(name: str) -> Any:
    """A wing's package. Raises `ModuleNotFoundError` that names the extra where a package that it needs is missing."""
    try:
        return importlib.import_module(_WINGS[name])
    except ModuleNotFoundError as error:
        from qat.registry import missing_extra

        said = missing_extra(error, _EXTRA.get(name))
        if said is None:
            raise
        raise ModuleNotFoundError(f"`qat.{name}` needs more than the core: {said}", name=error.name) from error


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_WINGS])
