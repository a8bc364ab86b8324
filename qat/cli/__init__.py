"""The command line: one function a command. What is heavy is imported by the command that needs it."""

from qat.cli import sweeps, records, models  # noqa: F401  # isort: skip
from qat.cli.line import app

__all__ = ["app"]
