"""The laboratory: experiments, sweeps and searches of them, and what they leave.

t = qat.lab.load_trial("runs/quickstart/trials/ID")  # a finished trial: settings, record, model
y = t.quantized.serve(t.converted, x)                # of a float trial: t.functions.inference(t.variables, x)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qat.lab.inspect.trial import Trial as Trial
    from qat.lab.inspect.trial import load_trial as load_trial
    from qat.lab.stats.contrasts import Contrast as Contrast

_HOME = {
    "Contrast": "qat.lab.stats.contrasts",
    **dict.fromkeys(("Trial", "load_trial"), "qat.lab.inspect.trial"),
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that `import qat.lab` is quick."""
    if name not in _HOME:
        raise AttributeError(f"module 'qat.lab' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
