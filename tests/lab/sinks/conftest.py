"""A finished trial, and where it comes from."""

import pytest
from sinkfiles import finished_folder, origin_in


@pytest.fixture
def origin(tmp_path):
    return origin_in(tmp_path / "runs")


@pytest.fixture
def folder(origin):
    return finished_folder(origin)
