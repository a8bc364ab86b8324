"""Runners: where jobs run. One file each; the simplest is beside their interface."""

from qat.lab.jobs.runners.runner import Runner, RunnerFactory, register, runners
from qat.registry import load_members

load_members(__path__, __name__)

__all__ = ["Runner", "RunnerFactory", "register", "runners"]
