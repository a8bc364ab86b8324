"""Observers, one file each: what range did this tensor take? Adding one is adding a file with a registered function."""

from qat.observers.observer import Observer, observers, register
from qat.registry import load_members

load_members(__path__, __name__)

__all__ = ["Observer", "observers", "register"]
