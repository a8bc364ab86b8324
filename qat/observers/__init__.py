"""Observers, which estimate a tensor's range; one file each. A new one is a new file with a registered function."""

from qat.observers.observer import Observer, observers, register
from qat.registry import load_members

load_members(__path__, __name__)

__all__ = ["Observer", "observers", "register"]
