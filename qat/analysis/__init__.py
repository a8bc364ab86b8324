"""The effect of quantization on each layer and on the whole function, measured on data.

layers = layer_statistics(q, params, state, batches)  # ranges, clipping, noise and histograms, site by site
print(layers)
path.write_text(layers.to_json())
output_error(q, params, state, batches)  # dB, end to end
operations(q, params, state, x)  # the share of multiplications at each pair of bits
"""

from qat.analysis.layers import Histogram, Layer, Layers, Operand
from qat.analysis.measure import layer_statistics, output_error
from qat.analysis.operations import operations

__all__ = [
    "Histogram",
    "Layer",
    "Layers",
    "Operand",
    "layer_statistics",
    "operations",
    "output_error",
]
