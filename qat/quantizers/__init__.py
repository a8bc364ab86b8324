"""Quantizers, one file each: differentiable rounding. Adding one is adding a file with a registered function."""

from qat.quantizers.quantizer import Quantizer, learning, quantizers, register
from qat.registry import load_members

load_members(__path__, __name__)

__all__ = ["Quantizer", "learning", "quantizers", "register"]
