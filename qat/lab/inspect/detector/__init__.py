"""A trained detector on image files: pictures of what it finds, and a file of results."""

from qat.lab.inspect.detector.load import Detector, load_detector, load_float_stage
from qat.lab.inspect.detector.run import Detected, detect

__all__ = ["Detected", "Detector", "detect", "load_detector", "load_float_stage"]
