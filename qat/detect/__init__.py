"""A trained detector on image files: pictures of what it finds, and a file of results."""

from qat.detect.run import Detected, detect
from qat.detect.trained import Detector, load_detector, load_float_stage

__all__ = ["Detected", "Detector", "detect", "load_detector", "load_float_stage"]
