"""Results as tidy pandas frames, read from the folders of studies: trials, training curves, layers, histograms."""

from qat.lab.runs.frames import keep, load
from qat.lab.runs.layers import histograms, layers
from qat.lab.runs.metrics import curves

__all__ = ["curves", "histograms", "keep", "layers", "load"]
