"""Runners: where jobs run. One file each."""

from qat.lab.jobs.runners.runner import Opening, Runner, register, runners
from qat.registry import load_members

load_members(__path__, __name__)

__all__ = ["Opening", "Runner", "register", "runners"]
