"""Engines: exact integer products. One file each."""

from qat.engines.engine import USUAL, Engine, conv_parameters, engines, register
from qat.registry import load_members

load_members(__path__, __name__)

__all__ = ["USUAL", "Engine", "conv_parameters", "engines", "register"]
