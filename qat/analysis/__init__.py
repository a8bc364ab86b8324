"""What quantization does to each layer, and to the function as a whole, on data.

layers = layer_statistics(q, params, state, batches)  # ranges, clipping, noise and histograms, site by site
print(layers)
path.write_text(layers.to_json())
output_error(q, params, state, batches)  # dB, end to end
sensitivities(q, params, (low, high), batches, loss)  # which layers gain most by more bits
"""

from qat.analysis.layers import Histogram, Layer, Layers, Operand
from qat.analysis.measure import layer_statistics
from qat.analysis.outputs import output_error
from qat.analysis.sensitivity import Sensitivity, most_sensitive, raise_layers, sensitivities

__all__ = [
    "Histogram",
    "Layer",
    "Layers",
    "Operand",
    "Sensitivity",
    "layer_statistics",
    "most_sensitive",
    "output_error",
    "raise_layers",
    "sensitivities",
]
