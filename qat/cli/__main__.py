"""`python -m qat.cli`."""

from qat.cli import app

app()
