"""Folders in COCO's format."""

import shutil
from pathlib import Path

import pytest
from coco_folder import write


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """A folder to be left as it is."""
    return write(tmp_path_factory.mktemp("coco"))


@pytest.fixture
def folder(original, tmp_path):
    """A copy to spoil."""
    return Path(shutil.copytree(original, tmp_path / "boards"))
