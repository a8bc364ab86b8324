"""`python -m qat.lab.cli`."""

from qat.lab.cli import app

app()
