"""Runners: where jobs run. One file each."""

from qat.registry import load_members
from qat.sweep.runners.runner import Opening, Runner, register, runners

load_members(__path__, __name__)

__all__ = ["Opening", "Runner", "register", "runners"]
