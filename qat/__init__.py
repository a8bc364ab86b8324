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
    from qat import results as results
    from qat.convert import Converted as Converted
    from qat.presets import recipe as recipe
    from qat.recipes import QuantRecipe as QuantRecipe
    from qat.recipes import QuantRule as QuantRule
    from qat.recipes import TensorSpec as TensorSpec
    from qat.sites import Site as Site
    from qat.state import QuantState as QuantState
    from qat.store import load as load
    from qat.store import save as save
    from qat.transform import Quantized as Quantized
    from qat.transform import quantize as quantize

_HOME = {
    "Converted": "qat.convert",
    "QuantRecipe": "qat.recipes",
    "QuantRule": "qat.recipes",
    "QuantState": "qat.state",
    "Quantized": "qat.transform",
    "Site": "qat.sites",
    "TensorSpec": "qat.recipes",
    "load": "qat.store",
    "quantize": "qat.transform",
    "recipe": "qat.presets",
    "save": "qat.store",
}
_MODULES = ("results",)
__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that `import qat` and `qat --help` are quick."""
    if name in _MODULES:
        return importlib.import_module(f"qat.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'qat' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
