"""The command line: one function a command. What is heavy is imported by the command that needs it."""

from qat.lab.cli import sweeps, records, records as models  # noqa: F401  # isort: skip
from qat.lab.cli.app import app

__all__ = ["app"]
