"""Post-training methods: which layers gain most by more bits, measured one at a time.

sensitivities(q, params, (low, high), batches, loss)  # what each layer's low bits cost
"""

from qat.ptq.mixed_precision import Sensitivity, most_sensitive, raise_layers, sensitivities

__all__ = ["Sensitivity", "most_sensitive", "raise_layers", "sensitivities"]
