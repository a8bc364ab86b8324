"""Quantizers, one file each: differentiable rounding. A new one is a new file with a registered function."""

from qat.quantizers.quantizer import Quantizer, learning, quantizers, register
from qat.registry import load_members

load_members(__path__, __name__)

__all__ = ["Quantizer", "learning", "quantizers", "register"]
