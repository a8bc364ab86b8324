"""Post-training methods, one file each, and which layers gain most by more bits.

apply(("smooth", "reestimate_bn"), subject, params, state, batches)   # better parameters and ranges, and what changed
sensitivities(q, params, (low, high), batches, loss)                  # what each layer's low bits cost

A method changes values alone: the served file stays as large, and served equals simulated to the last bit. Adding one
is adding a file with a registered function.
"""

from qat.ptq.method import Applied, Method, Outcome, Step, Subject, apply, composition, methods, register
from qat.ptq.mixed_precision import Sensitivity, most_sensitive, raise_layers, sensitivities
from qat.registry import load_members

load_members(__path__, __name__)

__all__ = [
    "Applied",
    "Method",
    "Outcome",
    "Sensitivity",
    "Step",
    "Subject",
    "apply",
    "composition",
    "methods",
    "most_sensitive",
    "raise_layers",
    "register",
    "sensitivities",
]
