"""Results as tidy pandas frames, read from the folders of studies: trials, training curves, layers, histograms."""

from qat.results.keep import keep
from qat.results.layers import histograms, layers
from qat.results.metrics import curves
from qat.results.trials import load

__all__ = ["curves", "histograms", "keep", "layers", "load"]
