"""Trials of a detector, and the boards that they were measured on."""

import pytest
from detectors import make_runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A study of a float and a quantized trial, to be left as it is."""
    return make_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def files(runs):
    """The folder of the boards."""
    return runs / "files"
