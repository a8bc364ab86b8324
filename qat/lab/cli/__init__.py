"""The command line: one function a command. What is heavy is imported by the command that needs it."""

from qat.lab.cli import sweeps, choosing, records, exporting, deploying, serving, starting  # noqa: F401  # isort: skip  # in the order of the help
from qat.lab.cli.app import app

__all__ = ["app"]
