"""Post-training methods, one file each, and which layers gain most by more bits.

apply(("smooth", "reestimate_bn"), subject, params, state, batches)   # better parameters and ranges, and what changed
setup = set_up(q, params, calibration, batches, loss)                 # ranges for every width of every layer
measure(setup), estimate(setup)                                       # what each layer's bits cost
allocate(setup, Budget("size", bits=4.5), held_out)                   # a recipe with bits for each layer, and a front

A method changes values alone: the served file stays as large, and served equals simulated to the last bit. Adding one
is adding a file with a registered function.
"""

from qat.ptq.allocation import Allocation, allocate
from qat.ptq.budget import Budget, budget_of
from qat.ptq.estimates import Estimates, estimate
from qat.ptq.groups import Group, Width
from qat.ptq.method import Applied, Method, Outcome, Step, Subject, apply, check_methods, composition, methods, register
from qat.ptq.mixed_precision import Sensitivity, most_sensitive, raise_layers, sensitivities
from qat.ptq.sensitivity import Change, Setup, measure, set_up
from qat.registry import load_members

load_members(__path__, __name__)

__all__ = [
    "Allocation",
    "Applied",
    "Budget",
    "Change",
    "Estimates",
    "Group",
    "Method",
    "Outcome",
    "Sensitivity",
    "Setup",
    "Step",
    "Subject",
    "Width",
    "allocate",
    "apply",
    "budget_of",
    "check_methods",
    "composition",
    "estimate",
    "measure",
    "methods",
    "most_sensitive",
    "raise_layers",
    "register",
    "sensitivities",
    "set_up",
]
